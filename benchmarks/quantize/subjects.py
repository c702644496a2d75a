"""What is rounded: a network, its calibration data of a draw, and what a rounded copy is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.quantize import convnet, minilm, text
from benchmarks.quantize.measures import Distance

Judged = dict[str, tuple[dict[str, float], Tensor]]  # by kind of data: means, and one error each `(N,)`


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and data for one draw.

    `make` gives a fresh copy. `calibrations` by name, each with batches of unseen data of the same kind for the
    layers' objectives. `judge` compares a copy with the original on unseen data.
    """

    make: Callable[[], nn.Module]
    calibrations: dict[str, tuple[Sequence[Any], Sequence[Any]]]
    judge: Callable[[nn.Module], Judged]


SENTENCES, DOCUMENTS = 1000, 150  # judged by


def transformer(draw: int) -> Subject:
    """MiniLM-L6 on unseen sentences and on documents; of the tuning parts for draws of tuning.

    Calibrated on single sentences, and on the same with half of them joined to passages.
    """
    corpus = text.corpus()
    tuning = draw >= text.FIRST_TUNING_DRAW
    kinds = {
        "sentences": (corpus.tuning if tuning else corpus.report)[:SENTENCES],
        "documents": (corpus.tuning_documents if tuning else corpus.report_documents)[:DOCUMENTS],
    }
    data = {kind: minilm.batches(texts) for kind, texts in kinds.items()}
    whole = minilm.SentenceEncoder()
    original = {kind: minilm.embeddings(whole, batches) for kind, batches in data.items()}

    def judge(model: nn.Module) -> Judged:
        distances = {k: Distance.of(minilm.embeddings(model, data[k]), original[k]) for k in data}
        return {kind: (distance.record(), distance.squared) for kind, distance in distances.items()}

    def batches(sentences: list[str], joined: float) -> list[minilm.Batch]:
        return minilm.batches(text.of_all_lengths(sentences, joined))

    calibrations = {
        name: (batches(corpus.calibration(draw), joined), batches(kinds["sentences"], joined))
        for name, joined in {"sentences": 0.0, "all lengths": 0.5}.items()
    }
    return Subject(minilm.SentenceEncoder, calibrations, judge)


def convolutional(draw: int) -> Subject:
    """The network of digits trained from the seed `draw`, on the digits it was not trained on."""
    weights, split = convnet.trained(draw)

    def make() -> nn.Module:
        model = convnet.network()
        model.load_state_dict(weights)
        return model.eval()

    inputs, targets = convnet.images(split.test_inputs), torch.as_tensor(split.test_targets)
    with torch.no_grad():
        original = make()(inputs)

    @torch.no_grad()
    def judge(model: nn.Module) -> Judged:
        logits = model(inputs)
        squared = (logits - original).double().square().sum(1) / original.double().square().sum(1).mean()
        accuracy = (logits.argmax(1) == targets).double().mean()
        agreement = (logits.argmax(1) == original.argmax(1)).double().mean()
        means = {"mse": float(squared.mean()), "accuracy": float(accuracy), "agreement": float(agreement)}
        return {"digits": (means, squared)}

    return Subject(make, {"digits": ([convnet.images(split.train_inputs)], [inputs])}, judge)


SUBJECTS: dict[str, Callable[[int], Subject]] = {"minilm": transformer, "convnet": convolutional}

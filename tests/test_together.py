"""Judging several candidates in one pass: the same losses as one by one, only where that pays, never a trace."""

import statistics
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.steps import together
from qanneal_opt.steps.evaluator import Evaluator


class Sine(nn.Module):
    def forward(self, inputs):
        return torch.sin(inputs)


class Noisy(nn.Module):
    """Draws noise in eval mode too."""

    def forward(self, inputs):
        return inputs + 0.1 * torch.randn(inputs.shape)


class Reading(nn.Module):
    """Its control flow reads values, which vmap cannot take."""

    def forward(self, inputs):
        return inputs if float(inputs.sum()) > 0 else 2 * inputs


class Attention(nn.Module):
    def forward(self, inputs):
        parts = inputs.unflatten(1, (2, 1, -1)).transpose(1, 2)  # (N, heads, tokens, width)
        return functional.scaled_dot_product_attention(parts, parts, parts).flatten(1)


MIDDLES = {
    "sine": Sine,
    "batch norm and dropout": lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh()),
    "layer norm": lambda: nn.LayerNorm(6),
    "noise": Noisy,
    "attention": Attention,
    "reading": Reading,
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 3, 2), nn.ReLU(), nn.Flatten()),
}
ENCODINGS = {"levels": qa.Levels.ternary(), "mask": qa.Mask(0.5), "window": qa.Window(bits=2, radius=0.1)}


def judged(middle, encoding=None, samples=40, width=6, **options):
    """An evaluator at the start of annealing, and candidates: sets of a few moves, one of them empty."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, width), middle, nn.Linear(width, 3))
    coded = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    samples = torch.randn(samples, 5), torch.randint(3, (samples,))
    optimizer = qa.AnnealingOptimizer(
        [{"params": coded, "encoding": encoding or qa.Levels.binary()}, {"params": rest}],
        objective=qa.Objective(model, functional.cross_entropy, samples, **options),
        annealing=qa.QuboStep(),
    )
    view, generator = optimizer._view(), torch.Generator().manual_seed(1)
    for encoded in view.encoded:
        encoded.begin()
    moves = view.sweep(generator)
    chosen = [torch.randperm(len(moves), generator=generator)[:size] for size in (1, 3, 0, 2, 4, 3)]
    return Evaluator(view, optimizer.objective, l0=1e-2), [moves.select(which) for which in chosen]


def one_by_one(evaluator, candidates, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(together, "LARGEST", 0)
        return evaluator.losses(candidates)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("middle", MIDDLES)
def test_candidates_have_the_losses_of_a_pass_each(middle, encoding, weighted, monkeypatch):
    options = {"weights": torch.arange(40.0)} if weighted else {"batch_size": 13}
    evaluator, candidates = judged(MIDDLES[middle]().train(), ENCODINGS[encoding], **options)
    model = evaluator.objective.model
    state, noise = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with evaluator.objective.frozen():
        evaluator.value()
        expected = one_by_one(evaluator, candidates, monkeypatch)
        found = evaluator.losses(candidates)
        batched = together.losses(evaluator.objective, [e.param for e in evaluator.view.encoded], candidates)
    assert found == pytest.approx(expected, rel=1e-5) and found[2] == evaluator.loss
    assert len(set(found)) == len(found)  # every candidate is one of its own
    assert (batched is None) == (middle == "reading")  # the others did not fall back
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(noise, torch.get_rng_state()) and model.training


def test_nothing_is_batched_where_that_does_not_pay(monkeypatch):
    evaluator, candidates = judged(Sine())
    params = [e.param for e in evaluator.view.encoded]
    size = 40 * sum(p.numel() for p in params)
    with evaluator.objective.frozen():
        monkeypatch.setattr(together, "LARGEST", size)
        assert together.losses(evaluator.objective, params, candidates) is not None
        assert together.losses(evaluator.objective, params, candidates[:1]) is None
        monkeypatch.setattr(together, "LARGEST", size - 1)
        assert together.losses(evaluator.objective, params, candidates) is None


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "width"), [(64, 16), (1000, 16), (1000, 60)])
def test_together_is_faster(samples, width, monkeypatch):
    """Up to half a million samples times weights; noise may cost a few tries."""
    evaluator, candidates = judged(Sine(), samples=samples, width=width)
    candidates = 2 * [moves for moves in candidates if len(moves)][:4]
    ratios = []
    for _ in range(5):
        spent = ([], [])
        with evaluator.objective.frozen():
            for _ in range(20):
                start = time.perf_counter()
                one_by_one(evaluator, candidates, monkeypatch)
                middle = time.perf_counter()
                evaluator.losses(candidates)
                spent[0].append(middle - start), spent[1].append(time.perf_counter() - middle)
        ratios.append(statistics.median(spent[0]) / statistics.median(spent[1]))
        if ratios[-1] > 1.3:
            return
    pytest.fail(f"one by one over together: {ratios}")

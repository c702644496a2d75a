"""Tables to train on: the real ones that scikit-learn ships, or a CSV file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanneal_opt.cli.console import UsageError, need

BUNDLED = ("digits", "breast_cancer", "wine")


@dataclass(frozen=True, eq=False)
class Split:
    """Standardised inputs ``(N, features)`` float32; targets ``(N,)`` int64 classes, or ``(N, 1)`` float32."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: list[str]  # empty for a regression

    @property
    def outputs(self) -> int:
        """How many outputs a network for these targets has."""
        return len(self.classes) or 1


def load(name: str, *, target: str | None = None, test_size: float = 0.2, seed: int = 0) -> Split:
    """Read a bundled table or a CSV file, and split it: stratified by class where there are classes."""
    if not 0 < test_size < 1:
        raise UsageError(f"Invalid --test-size: {test_size}; a share in (0, 1) is needed")
    selection = need("sklearn.model_selection")
    if name in BUNDLED:
        features, targets = getattr(need("sklearn.datasets"), f"load_{name}")(return_X_y=True)
        labels: list[str] | NDArray[np.float64] = [str(value) for value in targets]
    else:
        features, labels = _read_csv(Path(name), target)
    classes = sorted(set(labels)) if isinstance(labels, list) else []
    if isinstance(labels, list) and len(classes) < 2:
        raise UsageError(f"Invalid --data: {name}; its target has {len(classes)} class, at least 2 are needed")
    codes = np.array([classes.index(label) for label in labels]) if classes else np.asarray(labels)
    try:
        parts = selection.train_test_split(
            features, codes, test_size=test_size, random_state=seed, stratify=codes if classes else None
        )
    except ValueError as error:
        raise UsageError(f"Invalid --data: {name}; {error}") from error
    inputs, test_inputs, train, test = parts
    mean, spread = inputs.mean(0), inputs.std(0)
    spread[spread == 0] = 1.0  # a constant feature becomes 0

    def standard(x: NDArray[np.float64]) -> Tensor:
        return torch.tensor((x - mean) / spread, dtype=torch.float32)

    def answer(y: NDArray[np.float64]) -> Tensor:
        return torch.tensor(y, dtype=torch.int64) if classes else torch.tensor(y, dtype=torch.float32)[:, None]

    return Split(standard(inputs), answer(train), standard(test_inputs), answer(test), classes)


def _read_csv(path: Path, target: str | None) -> tuple[NDArray[np.float64], list[str] | NDArray[np.float64]]:
    """Numeric columns as features; the target is a class unless it has numbers with fractions."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Invalid --data: {path}; {BUNDLED} or a CSV file is needed ({error})") from error
    if len(rows) < 3 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        raise UsageError(f"Invalid --data: {path}; a header and rows of equal length, at least two columns, are needed")
    header, body = rows[0], rows[1:]
    if target is not None and target not in header:
        raise UsageError(f"Invalid --target: {target}; the columns of {path} are {', '.join(header)}")
    place = header.index(target) if target is not None else len(header) - 1
    answers = [row[place] for row in body]
    try:
        features = np.array([[float(v) for k, v in enumerate(row) if k != place] for row in body])
    except ValueError as error:
        raise UsageError(f"Invalid --data: {path}; features have to be numbers ({error})") from error
    if not np.isfinite(features).all():
        raise UsageError(f"Invalid --data: {path}; features have to be finite")
    try:
        numbers = np.array([float(answer) for answer in answers])
    except ValueError:
        return features, answers
    if not np.isfinite(numbers).all():
        raise UsageError(f"Invalid --data: {path}; targets have to be finite")
    return features, answers if (numbers == np.round(numbers)).all() else numbers

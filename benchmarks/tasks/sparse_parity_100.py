"""Hidden parity of 3 of 40 random signs, from only 100 samples.

loss, metric, solved, ge and contenders as in `sparse_parity`.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.l1_mlp import Setting
from benchmarks.tasks import sparse_parity

NAME = "sparse_parity_100"
BASELINE = sparse_parity.BASELINE
METRIC = sparse_parity.METRIC
TUNING_SEEDS = sparse_parity.TUNING_SEEDS
SAMPLES = 100
L1_SETTING = Setting("tanh", 256, lr=1e-2, l1=1e-3, weight_decay=0.0)


def tune() -> Iterator[dict[str, Any]]:
    """The baseline at this number of samples."""
    return sparse_parity.tuning_rows(SAMPLES)


CONTENDERS = sparse_parity.contenders(SAMPLES, L1_SETTING)

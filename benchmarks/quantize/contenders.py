"""Who is compared: settings of `qanneal_opt.quantize`, and GPTQ with what else is in ours but its search.

The shares of the ingredients are read from pairs: ours with one of them taken out, or one put in.
"""

from typing import Any

GPTQ: dict[str, Any] = {"method": "gptq"}
BASELINE, FAIR, DESCENT, OURS, FAST = "gptq", "gptq + refit + bias", "cd", "ours", "ours, fast"

CONTENDERS: dict[str, dict[str, Any]] = {
    "rtn": {"method": "rtn"},
    "gptq, min-max grid": {**GPTQ, "weighted": False},
    BASELINE: GPTQ,
    FAIR: {**GPTQ, "refit": True, "bias": True},
    DESCENT: {"method": "cd", "objective": "input", "refit": False, "bias": False},
    FAST: {"method": "cd", "objective": "input"},
    OURS: {},
    "ours - grid": {"weighted": False},
    "ours - search": {**GPTQ, "refit": True, "bias": True},
    "ours - annealing": {"method": "cd"},
    "ours - Kronecker": {"objective": "input"},
    "ours - refit": {"refit": False},
    "ours - bias": {"bias": False},
    "ours + sequence": {"sequential": True},
}

"""Who is compared: settings of `qanneal_opt.quantize`. What an ingredient brings is read from a pair."""

from typing import Any

_GPTQ: dict[str, Any] = {"method": "gptq"}
_INPUT = {"objective": "input"}
_FAIR = {**_GPTQ, "refit": True, "bias": True}

CONTENDERS: dict[str, dict[str, Any]] = {
    "rtn": {"method": "rtn"},
    "gptq, min-max grid": {**_GPTQ, "weighted": False},
    "gptq": _GPTQ,
    "gptq + refit + bias": _FAIR,
    "cd": {**_INPUT, "method": "cd", "refit": False, "bias": False},
    "fast": {**_INPUT, "method": "cd", "kronecker_passes": 1},
    "ours": {},
    "ours, min-max grid": {"weighted": False},
    "ours without annealing": {"method": "cd"},
    "ours without Kronecker": _INPUT,
    "ours without refit": {"refit": False},
    "ours without bias": {"bias": False},
    "ours, in sequence": {"sequential": True},
}
PAIRS = [("ours", other) for other in CONTENDERS if other != "ours"] + [
    ("gptq", "gptq, min-max grid"),
    ("fast", "gptq"),
]

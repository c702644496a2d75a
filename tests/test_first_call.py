"""What the first call of each kernel costs: compilation with an empty cache, none with a filled one."""

import json
import os
import subprocess
import sys

import pytest

CALLS = """
import json, sys, time
import torch
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, Tabu

couplings = torch.ones(6, 6) - torch.eye(6)
plain, words = Qubo(torch.ones(6), couplings), Qubo(torch.ones(6), couplings, word=3)
calls = {
    "minimise": lambda: Annealer().sample_arrays(plain),
    "draw": lambda: Annealer().sample_arrays(plain, temperature=1.0),
    "swaps": lambda: Annealer().sample_arrays(plain, cardinality=3),
    "words": lambda: Annealer().sample_arrays(words),
    "tabu": lambda: Tabu(moves=1).sample_arrays(plain),
}
"""

COUNTED = """
from numba.core.event import install_recorder

with install_recorder("numba:compile") as compiled:
    for call in calls.values():
        call()
print(json.dumps(len(compiled.buffer)))
"""

TIMED = """
begun = time.perf_counter()
calls[sys.argv[1]]()
print(json.dumps(time.perf_counter() - begun))
"""


def printed(code, *arguments, **environment):
    command = [sys.executable, "-c", CALLS + code, *arguments]
    answer = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_nothing_is_compiled_twice():
    printed(COUNTED)  # fills the cache, if it is not
    assert printed(COUNTED) == 0


@pytest.mark.slow
@pytest.mark.parametrize("call", ["minimise", "draw", "swaps", "words", "tabu"])
def test_a_first_call_takes_seconds_from_a_cold_cache_and_less_than_one_from_a_warm_one(call, tmp_path):
    """Of the call alone, in a process that has imported torch and the package."""
    assert printed(TIMED, call, NUMBA_CACHE_DIR=str(tmp_path)) < 20
    assert min(printed(TIMED, call, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)) < 1

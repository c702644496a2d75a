"""`import qanneal_opt` is quick, and leaves what is heavy or optional for the moment it is used."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys, time
import torch
before = set(sys.modules)
start = time.perf_counter()
import qanneal_opt
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({name.split(".")[0] for name in set(sys.modules) - before})]))
"""


def import_in_a_fresh_process() -> tuple[float, set[str]]:
    """Seconds that `import qanneal_opt` takes after `import torch`, and the top-level modules it adds."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


def test_import_is_quick_and_light():
    runs = [import_in_a_fresh_process() for _ in range(3)]
    assert runs[0][1].isdisjoint({"matplotlib", "sklearn", "numba", "dwave"})
    assert min(seconds for seconds, _ in runs) < 1.0

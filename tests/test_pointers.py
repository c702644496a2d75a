"""Kernels take pointers from arrays of their callers: numba frees what they made themselves while it is in use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qanneal_opt

PACKAGE = Path(qanneal_opt.__file__).parent
KERNELS = sorted(PACKAGE.rglob("kernels_*.py"))
OWNED = """
def kernel(given):
    number, room = 1, np.empty(3)
    for place in range(3):
        row = floats(room.ctypes.data + 4 * place)
    return floats(given.ctypes.data), floats(given.rows[0].ctypes.data)
"""


def made(function):
    """Names that a function gives to what numpy has made for it."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            targets, values = (
                [part] if not isinstance(part, ast.Tuple) else part.elts for part in (node.targets[0], node.value)
            )
            for target, value in zip(targets, values, strict=False):
                if isinstance(value, ast.Call) and ast.unparse(value.func).startswith("np."):
                    yield ast.unparse(target)


def pointers_to_own_arrays(code):
    """Names of what a function has made and takes a pointer of."""
    for function in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)):
        own = set(made(function))
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(".ctypes.data"):
                owner = node
                while not isinstance(owner, ast.Name):
                    owner = owner.value
                if owner.id in own:
                    yield owner.id


def test_the_check_sees_what_a_function_has_made():
    assert list(pointers_to_own_arrays(OWNED)) == ["room"]


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_no_kernel_takes_a_pointer_to_what_it_has_made(path):
    assert not list(pointers_to_own_arrays(path.read_text()))


CALLS = """
import torch
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer
from tests.lattices import layer
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.gptq import gptq
from qanneal_opt.compress.grid import fit_grid
from qanneal_opt.compress.lattice import Lattice

problem = layer(40, 200, 0)
grid = fit_grid(problem.weight, problem.moment, 3)
codes, _ = gptq(problem.weight, grid, Factor.of(problem.moment), threads=2)
Lattice(problem.weight, problem.moment, threads=2).search(codes, grid, sweeps=3)
Annealer().sample_arrays(Qubo(torch.ones(24), torch.ones(24, 24) - torch.eye(24), word=8))
"""


def test_kernels_work_where_freed_memory_is_gone_at_once():
    """The C library gives each block of over 1 kB back to the system when it is freed, so that a touch is a crash."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1024", "MALLOC_MMAP_MAX_": "1000000"}
    answer = subprocess.run(
        [sys.executable, "-c", CALLS], check=False, capture_output=True, text=True, env=environment, timeout=240
    )
    assert answer.returncode == 0, answer.stderr

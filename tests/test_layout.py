"""Imports inside the package go down its floors, or stay in one folder, and never run in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = "qanneal_opt"
FLOORS = (
    "floats qubo quadratic batches objective losses moves schedule telemetry guards subset simd rng energy terminal "
    "threads checks",
    "samplers curvature encoding judge refit",
    "optimizer alternation latents view checkpoint compress nn",
    "steps integrations",
    PACKAGE,  # its __init__.py, the public face: above the parts, below the commands
    "demo testing",
    "cli",
    "__main__",
)
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names.split()}


def statements(node):
    """All nodes below `node` but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            child = ast.Module(child.orelse, [])
        yield child
        yield from statements(child)


def imports(files):
    """The modules of the package that each of `files` imports, at its top or anywhere inside."""
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            wanted = []
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package)
                inner = [f"{base}.{alias.name}" for alias in node.names]
                wanted = [module if module in files else base for module in inner]
            yield from ((name, module) for module in wanted if module.split(".")[0] == PACKAGE)


def check(root):
    """Raises AssertionError or CycleError where the package in the folder `root` breaks the rules."""
    parts = {path: (PACKAGE, *path.relative_to(root).with_suffix("").parts) for path in root.rglob("*.py")}
    files = {".".join(p for p in names if p != "__init__"): path for path, names in parts.items()}
    top = {name: f"{name}.{PACKAGE}".split(".")[1] for name in files}
    for name in files:
        assert top[name] in FLOOR, f"{name} is on no floor: give it one in FLOORS"
    edges = {name: set() for name in files}
    for name, module in imports(files):
        assert module in files, f"{name} imports {module}, which does not exist"
        down = FLOOR[top[module]] - FLOOR[top[name]]
        together = parts[files[module]][1:-1][:1] == parts[files[name]][1:-1][:1]
        assert down < 0 or (down == 0 and together), f"{name} must not import {module}"
        edges[name].add(module)
    TopologicalSorter(edges).prepare()


def test_the_package_keeps_its_floors():
    check(Path(__file__).parents[1] / PACKAGE)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"qubo.py": "import torch", "judge.py": "from .qubo import Qubo"}, None),
        ({"qubo.py": "", "moves.py": "from qanneal_opt import qubo"}, None),
        ({"qubo.py": "if TYPE_CHECKING:\n    from . import judge", "judge.py": ""}, None),
        ({"nn/__init__.py": "from .a import A", "nn/a.py": "from . import b", "nn/b.py": ""}, None),
        ({"qubo.py": "def f():\n    from .judge import Judge", "judge.py": ""}, AssertionError),  # up
        ({"qubo.py": "from qanneal_opt import Objective", "__init__.py": ""}, AssertionError),  # up
        ({"samplers/a.py": "from ..encoding.b import B", "encoding/b.py": ""}, AssertionError),  # across
        ({"mystery.py": ""}, AssertionError),  # on no floor
        ({"judge.py": "import qanneal_opt.qubo"}, AssertionError),  # not there
        ({"qubo.py": "from .moves import M", "moves.py": "from .qubo import Q"}, CycleError),
        ({"nn/__init__.py": "from .a import A", "nn/a.py": "from . import A"}, CycleError),
    ],
)
def test_the_check_sees_what_it_should(tmp_path, files, error):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    if error is None:
        check(tmp_path)
    else:
        with pytest.raises(error):
            check(tmp_path)

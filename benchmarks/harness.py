"""Runs contenders of a task interleaved on the same seeds, and writes one JSON record a run."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "numpy", "scipy", "numba", "dimod", "dwave-samplers", "scikit-learn", "qanneal-opt")
MEASURED = ("solved", "loss", "metric", "ge")

Contender = Callable[[int], dict[str, Any]]


class BadInput(ValueError):
    """What a user typed cannot be run; the message is one line and says what would be valid."""


@dataclass(frozen=True)
class Task:
    """A task module in checked form.

    Its names: `NAME`, `BASELINE`, `TUNING_SEEDS`, `CONTENDERS` (seed to at least `solved, loss, metric, ge`)
    and maybe `METRIC` (what the metric is) and `tune()` (rows that end with the chosen setting).
    """

    name: str
    baseline: str
    contenders: dict[str, Contender]
    tuning_seeds: Sequence[int]
    metric: str
    summary: str
    tune: Callable[[], Iterator[dict[str, Any]]] | None

    @classmethod
    def of(cls, module: ModuleType) -> "Task":
        """Check a task module; `BadInput` names what is missing."""
        missing = [n for n in ("NAME", "BASELINE", "TUNING_SEEDS", "CONTENDERS") if not hasattr(module, n)]
        if missing:
            raise BadInput(f"Invalid task module: {module.__name__}: it lacks {', '.join(missing)}")
        if module.BASELINE not in module.CONTENDERS:
            raise BadInput(f"Invalid BASELINE: {module.BASELINE!r} in {module.__name__} is none of its contenders")
        return cls(
            module.NAME,
            module.BASELINE,
            dict(module.CONTENDERS),
            module.TUNING_SEEDS,
            getattr(module, "METRIC", "metric"),
            (module.__doc__ or "").strip().split("\n")[0],
            getattr(module, "tune", None),
        )


def task_names(package: str = "benchmarks.tasks") -> list[str]:
    """The modules of a package of tasks; nothing is imported but the package."""
    return sorted(info.name for info in iter_modules(import_module(package).__path__) if not info.name.startswith("_"))


def load(name: str, package: str = "benchmarks.tasks") -> Task:
    """Import one task by its name."""
    if name not in task_names(package):
        raise BadInput(f"Invalid task: {name!r}; known tasks: {', '.join(task_names(package))}")
    return Task.of(import_module(f"{package}.{name}"))


def parse_seeds(text: str) -> list[int]:
    """Seeds as `START:STOP`, or numbers with commas between.

    >>> parse_seeds("0:3"), parse_seeds("4,7")
    ([0, 1, 2], [4, 7])
    """
    try:
        first, colon, last = text.partition(":")
        seeds = list(range(int(first), int(last))) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise BadInput(
            f"Invalid seeds: {text!r}; write START:STOP (like 0:20) or different numbers with commas between"
        )
    return seeds


@cache
def versions() -> dict[str, str]:
    """Versions of python and of all that is measured with; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The commit of the sources, `-dirty` if tracked sources differ; `unknown` outside a repository."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "HEAD")
        if head.returncode:
            return "unknown"
        # Results and the README's table are written by this program itself.
        changed = git("diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results", ":!README.md")
    except OSError:
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed.returncode else "")


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for torch and BLAS, so that CPU seconds compare methods; restored afterwards.

    No kernel here is parallel within itself, so numba is not asked: its answer alone would start its threads, and set
    the number of torch's.
    """
    import torch

    threads = torch.get_num_threads()
    with ExitStack() as stack:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            pass  # then the environment that __main__ sets before the first import holds BLAS
        else:
            stack.enter_context(threadpool_limits(1))
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        yield


def measure(contender: Contender, seed: int) -> dict[str, Any]:
    """One clocked run: what the contender returns, with CPU seconds of all threads and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = contender(seed)
    cost = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    missing = [name for name in MEASURED if name not in result]
    if missing:
        raise TypeError(f"a contender returned no {', '.join(missing)}")
    return {**result, **cost}


def run(task: Task, names: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield a record for each seed and contender: seed by seed, the order rotated by one each time.

    Before the clock starts every contender runs once on a tuning seed, so nothing is compiled or read from
    disk later.
    """
    unknown = [name for name in names if name not in task.contenders]
    if unknown or not names:
        wrong = ", ".join(map(repr, unknown)) or "none"
        raise BadInput(f"Invalid contender: {wrong}; {task.name} knows {', '.join(task.contenders)}")
    with single_thread():
        for name in names:
            task.contenders[name](task.tuning_seeds[0])
        for turn, seed in enumerate(seeds):
            shift = turn % len(names)
            for name in (*names[shift:], *names[:shift]):
                measured = measure(task.contenders[name], seed)
                head = {"task": task.name, "contender": name, "seed": seed}
                tail = {
                    "metric_name": task.metric,
                    "baseline": task.baseline,
                    "commit": commit(),
                    "cpus": os.cpu_count(),
                    "machine": platform.machine(),
                    "versions": versions(),
                }
                yield {**head, **measured, **tail}

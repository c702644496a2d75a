"""Tell what is installed and configured: versions, devices, samplers, and the quantum annealer if there is one.

Nothing is changed but the cache of embeddings, nothing is submitted, and no secret is printed. A configured D-Wave
solver is asked over the network for its graph; --offline leaves it alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from importlib import metadata
from typing import Any

PACKAGES = (
    "qanneal-opt",
    "torch",
    "numpy",
    "scipy",
    "dimod",
    "dwave-samplers",
    "numba",
    "dwave-system",
    "scikit-learn",
    "matplotlib",
    "tqdm",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--offline", action="store_true", help="use no network")
    parser.add_argument("--mock", action="store_true", help="examine a machine that is made up instead of a real one")


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    report = examine(offline=options.offline, mock=options.mock)
    print(json.dumps(report, indent=2) if options.json else _text(report))


def examine(*, offline: bool = True, mock: bool = False) -> dict[str, Any]:
    """Give the report as plain data."""
    import torch

    from qanneal_opt import samplers

    rows = {row.name: row for row in samplers.available()}
    machine: dict[str, Any] | None = None
    if rows["qpu"].installed and (mock or (rows["qpu"].configured and not offline)):
        from qanneal_opt.cli import machine_report
        from qanneal_opt.demo.through import seat

        machine = machine_report.examine(seat("qpu", mock=mock, qpu_budget=0.0))
    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": devices,
        "packages": {name: _version(name) for name in PACKAGES},
        "samplers": [dataclasses.asdict(row) for row in rows.values()],
        "quantum_annealer": machine,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(report: dict[str, Any]) -> str:
    from qanneal_opt import samplers

    lines = [
        f"python {report['python']} on {report['platform']}, {report['cpus']} CPUs, "
        f"{report['torch_threads']} torch threads, CUDA: {', '.join(report['cuda']) or 'none'}",
        "",
        *(f"{name:<16} {version or 'not installed'}" for name, version in report["packages"].items()),
        "",
        str(samplers.available()),
    ]
    if report["quantum_annealer"] is not None:
        from qanneal_opt.cli import machine_report

        lines += ["", *machine_report.lines(report["quantum_annealer"])]
    return "\n".join(lines)

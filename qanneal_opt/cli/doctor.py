"""Tell what is installed and configured: versions, devices, samplers.

Nothing is changed, and no secret is printed.
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
    """Doctor takes no options of its own."""


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    report = examine()
    print(json.dumps(report, indent=2) if options.json else _text(report))


def examine() -> dict[str, Any]:
    """Give the report as plain data."""
    import torch

    from qanneal_opt import samplers

    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": devices,
        "packages": {name: _version(name) for name in PACKAGES},
        "samplers": [dataclasses.asdict(row) for row in samplers.available()],
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
    return "\n".join(lines)

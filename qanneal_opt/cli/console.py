"""What the commands share: errors of usage, optional packages."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any, NoReturn


class UsageError(Exception):
    """Input that the command cannot use; told in one line."""


class Parser(argparse.ArgumentParser):
    """Bad usage takes one line and exit status 2, as all bad input does; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Say it and exit."""
        self.exit(2, f"{self.prog}: {message}\n")


def need_folder(path: Path | None) -> None:
    """Tell of a file that could not be written, before the work."""
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"Invalid path: {path}; there is no such folder")
    if path is not None and path.is_dir():
        raise UsageError(f"Invalid path: {path}; it is a folder, a file is needed")


def need(module: str, extra: str = "bench") -> Any:
    """Import an optional module, or tell which extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed: pip install 'qanneal-opt[{extra}]'") from error

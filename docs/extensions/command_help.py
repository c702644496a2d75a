"""The directive `command-help`: what `qanneal-opt NAME --help` prints."""

import io
import os
from contextlib import redirect_stdout
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from qanneal_opt.cli import main


class CommandHelp(SphinxDirective):
    """A block with the help text of one command, or of all without an argument."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give the block."""
        text = io.StringIO()
        with redirect_stdout(text), mock.patch.dict(os.environ, COLUMNS="76", NO_COLOR="1"):
            if main([*self.arguments, "--help"]) != 0:
                raise self.error(f"Invalid command: {self.arguments}")
        return [nodes.literal_block(text.getvalue(), text.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

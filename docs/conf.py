"""Sphinx's settings. What is made when the pages are built is made by the modules in `extensions`."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the package, its benchmarks; the extensions and the figures

import qanneal_opt  # noqa: E402

project = "qanneal_opt"
author = "The qanneal_opt authors"
project_copyright = author
version = release = qanneal_opt.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "extensions.mathml",
    "extensions.drawn",
    "extensions.measured",
    "extensions.command_help",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"qanneal_opt {version}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False


def without_last_empty_line(app: Any, page: str, source: list[str]) -> None:
    """A code block that is run has an empty line before its closing fence; the page does not show it."""
    source[0] = source[0].replace("\n\n```\n", "\n```\n")


def setup(app: Any) -> None:
    """Extend Sphinx."""
    app.connect("source-read", without_last_empty_line)

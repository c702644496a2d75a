r"""Formulas as MathML, which browsers draw themselves: the pages need no script and no network.

The translation is that of docutils, a dependency of Sphinx. A formula that it cannot translate is a warning, so that
a build with warnings as errors fails.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# What LaTeX reads and docutils does not: \dots, and a fraction of two digits without braces.
REPAIRS = (
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"(\\[td]?frac)(\d)(\d)"), r"\1{\2}{\3}"),
)


def translated(node: Any, block: bool) -> str:
    """The MathML of a math node."""
    source = node.astext()
    for pattern, repaired in REPAIRS:
        source = pattern.sub(repaired, source)
    try:
        return str(tex2mathml(source, as_block=block))
    except MathError as error:
        logger.warning("formula %r: %s", source, error, location=node)
        return ""


def inline(writer: Any, node: Any) -> None:
    """Write a formula in a line of text."""
    writer.body.append(translated(node, block=False))
    raise nodes.SkipNode


def block(writer: Any, node: Any) -> None:
    """Write a displayed formula, which scrolls by itself where the page is narrow."""
    writer.body.append(f'<div class="formula">{translated(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

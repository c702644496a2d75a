"""The directive `drawn`: a figure that a module of `figures` draws when the pages are built, light and dark.

```{drawn} NAME
:alt: what is to be seen
A caption.
```
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from figures import NAMES, THEMES
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
FOLDER = "_build/figures"  # below the source folder: Sphinx copies from there, and git does not look there


def draw_all(app: Sphinx) -> None:
    """Draw every figure in every theme."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        logger.info("drawing %s", name)
        import_module(f"figures.{name}").draw(folder)


class Drawn(SphinxDirective):
    """One figure with its caption; of its two pictures the stylesheet shows the one that fits the page's theme."""

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Give the figure."""
        name = self.arguments[0]
        if name not in NAMES or "alt" not in self.options:
            raise self.error(f"Invalid figure: {name!r}; one of {', '.join(NAMES)}, and :alt:, are needed")
        figure = nodes.figure(classes=["drawn"])
        for theme in THEMES:
            uri = f"/{FOLDER}/{name}-{theme}.svg"
            figure += nodes.image(uri=uri, alt=self.options["alt"], classes=[f"only-{theme}"])
        text = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, text)
        figure += nodes.caption("", "", *[part for paragraph in text for part in paragraph.children])
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw when a build begins."""
    app.connect("builder-inited", draw_all)
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

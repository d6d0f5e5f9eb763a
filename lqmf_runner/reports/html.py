"""Reports as one self-contained HTML file: no script, nothing loaded from elsewhere, pictures inlined."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from .document import Block, Heading
from .plots.palette import theme_css

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("lqmf_runner.reports"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_html(blocks: Sequence[Block]) -> str:
    """The document as one HTML page."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    light, dark = theme_css()
    template = _ENVIRONMENT.get_template("report.html.j2")
    return template.render(
        title=title, blocks=[(type(block).__name__, block) for block in blocks], light=light, dark=dark
    )

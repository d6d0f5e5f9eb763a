"""What all plots share: size, colours that follow the page's light or dark theme, legends, and saving."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .palette import GRID, INK, LIGHT, MUTED, PAPER

WIDTH = 4.6  # inches: about the width of a phone's screen, so that letters keep their size there
_MARKERS = "osD^vPX"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"c{number}" for number, colour in enumerate(LIGHT)
}
_RC = {
    "font.size": 8.5, "axes.titlesize": 10, "axes.labelsize": 8.5, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "axes.grid": True, "axes.grid.which": "major", "grid.color": GRID, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left",
    "svg.fonttype": "none", "svg.hashsalt": "lqmf", "text.parse_math": False, "savefig.transparent": True,
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A finished picture. `svg` is an `<svg>` element to be put into a page that defines the theme's variables."""

    name: str
    alt: str
    caption: str
    png: bytes
    svg: str


class Sheet:
    """A figure of the house style, to be drawn on within `with` and then saved."""

    def __init__(self, name: str, title: str, height: float = 3.1) -> None:
        self._name, self._title = name, title
        self._context: Any = matplotlib.rc_context(_RC)
        self._height = height

    def __enter__(self) -> Sheet:
        self._context.__enter__()
        self.figure = Figure(figsize=(WIDTH, self._height), layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set_title(self._title, pad=8)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._context.__exit__(*exception)

    def legend(self, labels: int, longest: int) -> None:
        """Below the axes, in as many columns as the longest label leaves room for. The sheet grows with it."""
        columns = max(1, min(labels, 3, 72 // (longest + 8)))
        rows = -(-labels // columns)
        self.figure.set_figheight(self._height + 0.17 * rows)
        self.figure.legend(
            loc="outside lower left", ncols=columns, frameon=False, borderpad=0.2, handletextpad=0.4, handlelength=1.6,
            columnspacing=1.2, labelspacing=0.3, markerscale=0.9,
        )  # fmt: skip

    def plot(self, caption: str) -> Plot:
        """Save the sheet in both forms."""
        png, svg = io.BytesIO(), io.BytesIO()
        self.figure.savefig(png, format="png", dpi=200, facecolor=PAPER, transparent=False)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(svg, format="svg", metadata=nothing)
        return Plot(
            f"{self._name}.png",
            self._title,
            caption,
            png.getvalue(),
            _themed(svg.getvalue().decode(), self._name),
        )


def colour(model: int) -> str:
    """Colour of the model with that number."""
    return LIGHT[model % len(LIGHT)]


def marker(model: int) -> str:
    """Marker of the model with that number; after seven models a colour comes back with another marker."""
    return _MARKERS[(model + model // len(LIGHT)) % len(_MARKERS)]


def short(name: str, length: int = 34) -> str:
    """A name cut in its middle: both ends tell models of a family apart."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def unique(names: Sequence[str], length: int = 34) -> list[str]:
    """Short names, with a number where two would look the same."""
    shortened = [short(name, length) for name in names]
    return [
        label if shortened.count(label) == 1 else f"{number + 1} {short(label, length - 3)}"
        for number, label in enumerate(shortened)
    ]


def _themed(svg: str, name: str) -> str:
    """The bare `<svg>` element, with the theme's variables for colours and ids that no other picture has."""
    head, body = svg[svg.index("<svg") :].split(">", 1)
    head = re.sub(r' (?:xmlns(?::\w+)?|width|height)="[^"]*"', "", head)
    svg = f"{head}>{body}"
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", svg)
    for value, variable in _VARIABLES.items():
        svg = svg.replace(f": {value}", f": var(--{variable})")
    return svg

"""Colours of plots, on paper and on a dark screen."""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1b1f24", "#6a7178", "#e1e4e8", "#ffffff"
# Okabe and Ito's palette, darkened for white paper and lightened for dark screens. The colours are distinguishable with
# any colour vision, and in print by the markers.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#c0609a", "#b07800", "#3fa0d8", "#5a5f66")
DARK = ("#4aa8e0", "#ff8b45", "#2ecc9c", "#e59bc4", "#f0b93a", "#9ad4f8", "#c3c8ce")


def theme_css() -> tuple[str, str]:
    """Declarations of the series' colours, for light and for dark pages."""
    light, dark = (
        "".join(f"--c{number}:{value};" for number, value in enumerate(colours)) for colours in (LIGHT, DARK)
    )
    return light, dark

"""What the program can do. A mode is a file in this package with an entry `MODE`, and a line here.

The files import nothing heavy before they run, so that `--help` can list all modes at once.
"""

from __future__ import annotations

from . import batch, benchmark, chat, compare, console, history, keys, models, quantize, serve, status, stop
from .base import Mode

__all__ = ["MODES", "Mode"]

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        serve.MODE,
        status.MODE,
        stop.MODE,
        keys.MODE,
        chat.MODE,
        console.MODE,
        batch.MODE,
        benchmark.MODE,
        compare.MODE,
        quantize.MODE,
        models.MODE,
        history.MODE,
    )
}

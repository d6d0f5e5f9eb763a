"""What the program can do. A mode is a file in one of these packages with an entry `MODE`, and a line here.

The files import nothing heavy before they run, so that `--help` can list all modes at once.
"""

from __future__ import annotations

from .base import Mode
from .runs import batch, benchmark, compare, history
from .server import keys, serve, status, stop
from .terminal import chat, console
from .weights import models, pull, quantize, versions

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
        pull.MODE,
        models.MODE,
        history.MODE,
        versions.MODE,
    )
}

"""server.verbose: requests, loads and unloads as lines in the terminal that the server runs in."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOADS = "lqmf_runner.server.pool"
PROBES = ("/health", "/ready", "/metrics")
"""What other programs ask every few seconds: the access log has it, the terminal does not."""


def request_line(entry: dict[str, Any]) -> str:
    """An entry of the access log for people: `12:41:07 POST /v1/chat/completions 200 412 ms smollm2_gguf 64 tokens`."""
    line = (
        f"{time.strftime('%H:%M:%S')} {entry['method']} {entry['path']} {entry['status']} "
        f"{entry['duration_ms']:.0f} ms"
    )
    if entry.get("model"):
        line += f" {entry['model']} {entry.get('output_tokens') or 0} tokens"
    if entry.get("error"):
        line += f" {entry['error']}"
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")


@contextmanager
def shown_loads(verbose: bool) -> Iterator[None]:
    """Show in the terminal which models are loaded and unloaded. Warnings are shown anyway."""
    if not verbose:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno < logging.WARNING)
    logger = logging.getLogger(_LOADS)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)

"""Moments as results and logs hold them: ISO 8601 with offset, or milliseconds since the epoch as MLflow has them."""

from __future__ import annotations

import time
from datetime import datetime


def now() -> str:
    """This second, in local time: "2026-01-02T03:04:05+01:00"."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def now_ms() -> int:
    """This moment in milliseconds since the epoch."""
    return int(time.time() * 1000)


def to_ms(moment: str) -> int:
    """An ISO 8601 moment in milliseconds since the epoch."""
    return int(datetime.fromisoformat(moment).timestamp() * 1000)

"""Server-sent events as bytes."""

from __future__ import annotations

from typing import Any

import msgspec

encode_json = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"


def event(body: Any) -> bytes:
    """One event. Clients split at an empty line, so line ends are line feeds."""
    return b"data: " + encode_json(body) + b"\n\n"

"""A request of a server's session, as `tracking` sends it to MLflow."""

from __future__ import annotations

from typing import Any

import msgspec


class RequestTrace(msgspec.Struct, kw_only=True):
    """A request that has ended.

    Attributes:
        id: that of the access log.
        key: name of its API key.
        began: seconds since the epoch.
        duration_s, first_token_s: after `began`; the latter is 0 where there was no token.
        queue_s, prefill_s, decode_s: engine-side, see `types.Usage`.
        error: kind of the error, empty where it succeeded.
        inputs, outputs: prompts and answers, where they may be kept.
    """

    id: str
    key: str | None
    route: str
    model: str
    streaming: bool
    n: int
    status: int
    error: str
    cancelled: bool
    began: float
    duration_s: float
    first_token_s: float
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None

"""Single requests for MLflow: recorded as they end, and sent later by another process (see `tracking.session`).

The request itself pays a few microseconds. What is noted is bounded by a rate, so that neither this process nor MLflow
has to keep up with every load.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from ...results.schema import RequestTrace
from ...types import GenerationRequest
from .observe import ServedRequest

_LONGEST_TEXT = 8_000
_MOST_TEXTS = 16


class TraceRecorder:
    """An observer that records requests until they are taken.

    Args:
        per_minute: at most so many on average; the others are not recorded.
        content: record prompts and answers too, shortened.
    """

    def __init__(
        self, *, per_minute: float, content: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_minute / 60
        self._most = max(per_minute, 1.0)
        self._content = content
        self._clock = clock
        self._room, self._at = self._most, clock()
        self._noted: list[RequestTrace] = []

    def on_start(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""
        if self._content:
            request.texts = defaultdict(list)

    def on_first_token(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""

    def on_end(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""
        now = self._clock()
        self._room = min(self._most, self._room + (now - self._at) * self._per_second)
        self._at = now
        if self._room >= 1 and request.names_a_model:
            self._room -= 1
            self._noted.append(_trace(request))

    def take(self) -> list[RequestTrace]:
        """What was recorded since the last call."""
        noted, self._noted = self._noted, []
        return noted


def _trace(request: ServedRequest) -> RequestTrace:
    state, usage = request.scope.get("state", {}), request.usage
    key = state.get("api_key")
    duration_s = request.ended - request.began
    trace = RequestTrace(
        id=state.get("request_id", ""),
        key=key.name if key else None,
        route=request.route,
        model=request.answering,
        streaming=request.streaming,
        n=request.n,
        status=request.status,
        error=type(request.error).__name__ if request.error else "",
        cancelled=request.cancelled,
        began=time.time() - duration_s,
        duration_s=duration_s,
        first_token_s=request.first_token - request.began if request.first_token else 0.0,
        output_tokens=request.tokens,
    )
    if usage is not None:
        trace.queue_s, trace.prefill_s, trace.decode_s = usage.queue_s, usage.prefill_s, usage.decode_s
        trace.prompt_tokens, trace.cached_tokens = usage.prompt_tokens, usage.cached_tokens
    if request.texts is not None:
        trace.inputs = _inputs(request.asked)
        answers = [_short("".join(request.texts[index])) for index in sorted(request.texts)[:_MOST_TEXTS]]
        messages = [{"role": "assistant", "content": answer} for answer in answers]
        trace.outputs = {"choices": [{"message": message} for message in messages]}
    return trace


def _inputs(asked: Sequence[GenerationRequest]) -> dict[str, Any]:
    """What was asked, in the form of OpenAI's API."""
    if asked and asked[0].messages is not None:
        turns = asked[0].messages[-_MOST_TEXTS:]
        return {"messages": [{"role": turn.role, "content": _short(turn.content or "")} for turn in turns]}
    prompts = dict.fromkeys(one.prompt if one.prompt is not None else one.prompt_tokens for one in asked)
    texts = [prompt if isinstance(prompt, str) else str(list(prompt or ())) for prompt in prompts]
    return {"prompt": [_short(text) for text in texts[:_MOST_TEXTS]]}


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"

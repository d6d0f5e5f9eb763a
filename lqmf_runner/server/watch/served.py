"""A log of the requests that versions behind one name have served, for `mode=compare mode.served=<name>`."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from ...errors import QueueFullError, TooManyRequestsError
from ...results.served import FAILED, KEPT_FILES, SERVED, ServedRecord
from .access_log import AccessLogFile
from .metrics import outcome
from .observe import ServedRequest


class ServedLog:
    """Writes `served.jsonl` (see `observe.Watcher`). Requests for a name that one version answers are not in it.

    Args:
        max_mb: a new file begins at this size.
    """

    def __init__(self, folder: Path, *, max_mb: float) -> None:
        self._path = folder / SERVED
        self._max_bytes = int(max_mb * 1e6)
        self._salt = secrets.token_bytes(16)  # so that the name of a session cannot be guessed
        self._file: AccessLogFile | None = None
        self._running: Counter[str] = Counter()
        self._at_once: dict[int, int] = {}

    def on_start(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""

    def on_first_token(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""
        self._running[request.target] += 1
        self._at_once[id(request)] = self._running[request.target]

    def on_end(self, request: ServedRequest) -> None:
        """See `observe.Watcher`."""
        at_once = self._at_once.pop(id(request), 0)
        if at_once:
            self._running[request.target] -= 1
        if len(request.shares) > 1:
            if self._file is None:
                self._file = AccessLogFile(
                    self._path, as_json=True, max_bytes=self._max_bytes, backups=KEPT_FILES
                )
            self._file.write(msgspec.to_builtins(self._record(request, at_once)))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Writes what waits when the block ends."""
        try:
            yield
        finally:
            if self._file is not None:
                self._file.close()

    def _record(self, request: ServedRequest, at_once: int) -> ServedRecord:
        duration_s, chunks, usage = request.ended - request.began, request.own or [], request.usage
        told_apart = request.n == 1 and len(chunks) > 1
        return ServedRecord(
            time=time.time() - duration_s,
            name=request.model,
            version=request.target,
            digest=request.held[0].version if request.held else "",
            shares=dict(request.shares),
            unit=hashlib.blake2b(request.stick.encode(), key=self._salt, digest_size=8).hexdigest(),
            outcome=_outcome(request),
            finish_reasons=list(request.finish_reasons),
            answers=request.n,
            at_once=at_once,
            ttft_s=request.first_token - request.began if request.first_token else 0.0,
            e2e_s=duration_s,
            gaps=sum(n for _, n in chunks[1:]) if told_apart else 0,
            gaps_s=chunks[-1][0] - chunks[0][0] if told_apart else 0.0,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            cached_tokens=usage.cached_tokens if usage else 0,
            output_tokens=request.tokens,
        )


def _outcome(request: ServedRequest) -> str:
    """As the metrics have it, but a version that is busy has failed: its queue is full, or its endpoint answered 429.

    A limit of this server for the client is no failure of the version.
    """
    full = isinstance(request.error, QueueFullError) and not isinstance(request.error, TooManyRequestsError)
    return FAILED if full and not request.cancelled else outcome(request)

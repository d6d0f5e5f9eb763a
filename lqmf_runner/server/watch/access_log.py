"""The access log: one line per request, with an id that the client gets too.

It never has a key, a query string or a prompt.
"""

from __future__ import annotations

import datetime
import json
import logging
import random
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

from ...config import ServerConfig
from ..asgi import App, Message, Receive, Scope, Send, header
from .observe import ServedRequest
from .screen import PROBES, request_line

FILE_NAME = "access.log"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_LONGEST_PATH = 300
_MOST_WAITING = 10_000
_WRITE_EVERY_S = 0.1

Write = Callable[[dict[str, Any]], None]
Count = Callable[[str, int], None]  # method and status


class AccessLogFile:
    """A rotating file. A separate thread writes it a few times a second, so that a slow disk delays no answer.

    Args:
        path: None writes no file.
        as_json: an object a line, else `time client "method path" status duration ...`.
        screen: gets a short line for people too.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        as_json: bool = False,
        max_bytes: int = 10_000_000,
        backups: int = 5,
        screen: IO[str] | None = None,
    ) -> None:
        self._format = _json_line if as_json else _plain_line
        self._handler: logging.Handler = logging.NullHandler()
        if path is not None:
            self._handler = _QuietHandler(
                path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True
            )
        self._screen = screen
        self._entries: deque[dict[str, Any]] = deque()  # appended by one thread, taken by the other
        self._some, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_lines, name="access log", daemon=True)
        self._thread.start()

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line. It is dropped if the disk cannot keep up."""
        if len(self._entries) < _MOST_WAITING:
            self._entries.append(entry)
            if not self._some.is_set():
                self._some.set()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._closing.set()
        self._some.set()
        self._thread.join()
        self._handler.close()

    def _write_lines(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(_WRITE_EVERY_S)
            self._some.clear()
            self._write_waiting()
        self._write_waiting()  # what was added after the last check

    def _write_waiting(self) -> None:
        while self._entries:
            entry = self._entries.popleft()
            self._handler.handle(logging.makeLogRecord({"msg": self._format(entry)}))
            if self._screen is not None and entry["path"] not in PROBES:
                self._show(entry, self._screen)

    def _show(self, entry: dict[str, Any], screen: IO[str]) -> None:
        try:
            print(request_line(entry), file=screen, flush=True)
        except (OSError, ValueError):  # nobody looks any more
            self._screen = None


@contextmanager
def open_access_log(config: ServerConfig, run_dir: Path) -> Iterator[AccessLogFile | None]:
    """The file in the run's folder, and the terminal if it is wanted, closed at the end; None if neither is."""
    if config.access_log == "off" and not config.verbose:
        yield None
        return
    log = AccessLogFile(
        None if config.access_log == "off" else run_dir / FILE_NAME,
        as_json=config.access_log == "json",
        max_bytes=int(config.access_log_mb * 1e6),
        screen=sys.stderr if config.verbose else None,
    )
    try:
        yield log
    finally:
        log.close()


class _QuietHandler(RotatingFileHandler):
    """If the disk is full, lines are lost and one warning is printed."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not self._told:
            self._told = True
            print(f"warning: the access log cannot be written: {sys.exc_info()[1]}", file=sys.stderr)


class AccessLog:
    """The outermost middleware: gives each request an id, counts its response, and logs its outcome.

    The id is the client's own X-Request-Id where that is a plain word, else a new one. It is in
    `scope["state"]["request_id"]` and goes back in the header X-Request-Id.
    """

    def __init__(self, app: App, count: Count, write: Write | None = None) -> None:
        self._app = app
        self._count = count
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = header(scope, b"x-request-id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else b"%032x" % random.getrandbits(128)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        status, sent, ended = 0, 0, False

        async def send_counted(message: Message) -> None:
            nonlocal status, sent, ended
            if message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            else:
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            self._count(scope["method"], status)
            if self._write is not None:
                duration_ms = round((time.perf_counter() - began) * 1000, 2)
                result = {"status": status, "complete": ended, "bytes": sent, "duration_ms": duration_ms}
                self._write({**_request(scope), **result, **_served(state.get("served"))})


def _request(scope: Scope) -> dict[str, Any]:
    state = scope["state"]
    key = state.get("api_key")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "id": state["request_id"],
        "client": (scope.get("client") or ("",))[0],
        "key": key.name if key else None,
        "method": scope["method"],
        "path": _path(scope),
    }


def _served(request: ServedRequest | None) -> dict[str, Any]:
    """What a model did for the request, if one was asked."""
    if request is None or not request.counted:
        return {}
    usage = request.usage
    ttft_ms = round((request.first_token - request.began) * 1000, 2) if request.first_token else None
    return {
        "model": request.answering,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "output_tokens": request.tokens,
        "ttft_ms": ttft_ms,
        "error": type(request.error).__name__ if request.error else None,
    }


def _path(scope: Scope) -> str:
    """The path as it was sent, still percent-encoded, so that it cannot break out of its quotes."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
    path = raw.decode("ascii", "backslashreplace").replace('"', "%22")
    return path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "…"


def _json_line(entry: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in entry.items() if value is not None})


def _plain_line(entry: dict[str, Any]) -> str:
    known = dict(entry)
    line = (
        f"{known.pop('time')} {known.pop('client') or '-'} {known.pop('key') or '-'} "
        f'"{known.pop("method")} {known.pop("path")}" {known.pop("status")} {known.pop("duration_ms")}ms'
    )
    rest = " ".join(f"{name}={value}" for name, value in known.items() if value is not None)
    return _one_line(f"{line} {rest}")


def _one_line(text: str) -> str:
    """Escapes what could begin a new line or control the terminal that shows the log."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")

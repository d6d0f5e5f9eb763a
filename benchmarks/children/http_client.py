"""A load generator in a process of its own, the same for every server: closed loops of streaming requests.

One JSON job a line (see `child.py`): `{"url", "path", "bodies", "concurrency"}`. Each of `concurrency` users sends the
next of the bodies as soon as its last answer has ended. Plain HTTP/1.1 over asyncio streams:
a general HTTP client would take more of the two cores than the servers' own HTTP does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
from jobs import answer_jobs

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class User:
    """One user: sends a request at a time, on one connection for as long as the server keeps it.

    A stream has a connection of its own: some servers close theirs after one without saying so.
    """

    def __init__(self, url: str, path: str) -> None:
        self._host = urlsplit(url).netloc
        self._path = path
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes, *, stream: bool) -> dict[str, Any]:
        """Send a request; returns when it was sent, when content came, when it ended, and how many tokens it had."""
        if self._connection is None:
            self._connection = await asyncio.open_connection(*self._host.split(":"))
        reader, writer = self._connection
        head = f"POST {self._path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        head += "Connection: close\r\n" if stream else ""
        sent = time.perf_counter()
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        keep = False
        try:
            status, headers = await _head(reader)
            data = _body(reader, headers)
            if status != 200:
                why = b"".join([part async for part in data])
                raise RuntimeError(f"{self._path} answered {status}: {why.decode(errors='replace')[:300]}")
            if stream:
                arrivals, tokens = await _streamed(data)
            else:
                whole = _decode(b"".join([part async for part in data]))
                arrivals, tokens = [time.perf_counter()], whole["usage"]["completion_tokens"]
                keep = headers.get("connection", "").lower() != "close"
        finally:
            if not keep:
                self.close()
        return {"sent": sent, "arrivals": arrivals, "ended": time.perf_counter(), "tokens": tokens}

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


async def _streamed(data: AsyncIterator[bytes]) -> tuple[list[float], int]:
    """When content came, and how many tokens there were: as the server counts them, else one for each piece."""
    arrivals: list[float] = []
    tokens = 0
    async for event in _events(data):
        now = time.perf_counter()
        if "error" in event:
            raise RuntimeError(str(event["error"]))
        choices = event.get("choices") or ()
        arrivals += [now for c in choices if c.get("text") or (c.get("delta") or {}).get("content")]
        tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
    return arrivals, tokens or len(arrivals)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield await (
            reader.readexactly(int(headers["content-length"]))
            if "content-length" in headers
            else reader.read()
        )
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def _events(data: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON of server-sent events, from pieces that may end anywhere."""
    rest = b""
    async for piece in data:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (text := line[5:].strip()) not in (b"", b"[DONE]"):
                yield _decode(text)


async def _load(job: dict[str, Any]) -> dict[str, Any]:
    bodies = iter(job["bodies"])
    answers: list[dict[str, Any]] = []

    async def user() -> None:
        with contextlib.closing(User(job["url"], job["path"])) as one:
            for body in bodies:
                answers.append(await one.ask(_encode(body), stream=bool(body.get("stream"))))  # noqa: PERF401

    began = time.perf_counter()
    try:
        await asyncio.gather(*(user() for _ in range(job["concurrency"])))
    except (OSError, EOFError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"seconds": time.perf_counter() - began, "answers": answers}


if __name__ == "__main__":
    answer_jobs(lambda job: asyncio.run(_load(job)))

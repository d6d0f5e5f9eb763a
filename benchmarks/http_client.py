"""A load generator in a process of its own, the same for every server: closed loops of streaming requests.

One JSON job a line (see `child.py`): `{"url", "path", "bodies", "concurrency"}`. Each of `concurrency` users sends the
next of the bodies as soon as its last answer has ended. Plain HTTP/1.1 over asyncio streams:
a general HTTP client would take more of the two cores than the servers' own HTTP does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
from child import answer_jobs

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


async def ask(url: str, path: str, body: bytes) -> dict[str, Any]:
    """Send a request; returns when it was sent, when content came, when it ended, and how many tokens it had.

    On a connection of its own: some servers close theirs after a stream, some do not.
    """
    host = urlsplit(url).netloc
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    sent = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        status, headers = await _head(reader)
        data = _body(reader, headers)
        if status != 200:
            why = b"".join([part async for part in data])
            raise RuntimeError(f"{path} answered {status}: {why.decode(errors='replace')[:300]}")
        if headers.get("content-type", "").startswith("text/event-stream"):
            arrivals, tokens = await _streamed(data)
        else:
            whole = _decode(b"".join([part async for part in data]))
            arrivals, tokens = [time.perf_counter()], whole["usage"]["completion_tokens"]
    finally:
        writer.close()
    return {"sent": sent, "arrivals": arrivals, "ended": time.perf_counter(), "tokens": tokens}


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
    bodies = iter([_encode(body) for body in job["bodies"]])
    answers: list[dict[str, Any]] = []

    async def user() -> None:
        for body in bodies:
            answers.append(await ask(job["url"], job["path"], body))  # noqa: PERF401 (shared by all users)

    began = time.perf_counter()
    try:
        await asyncio.gather(*(user() for _ in range(job["concurrency"])))
    except (OSError, EOFError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"seconds": time.perf_counter() - began, "answers": answers}


if __name__ == "__main__":
    answer_jobs(lambda job: asyncio.run(_load(job)))

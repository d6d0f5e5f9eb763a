"""An OpenAI endpoint whose answers a test writes down: JSON, events, pieces of them, and silence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from lqmf_runner.types import GenerationRequest, Message, ModelSpec, SamplingParams

CHAT = GenerationRequest(
    messages=(Message("user", "hi"),), sampling=SamplingParams(max_tokens=5, temperature=0)
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def event(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}]}


class Endpoint:
    """One HTTP/1.1 server on a free port. `answers` maps a path to what it does; `requests` is what it was sent.

    `open` counts the connections that there are.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/v1/models": {"data": [{"id": "m1"}]}}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.hung_up = asyncio.Event()
        self.open = 0

    async def __aenter__(self) -> Endpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split()[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((path, headers, json.loads(body) if body else None))
                await self._answer(
                    self.answers.get(path, (404, {"error": {"message": "no such route"}})), writer
                )
        writer.close()
        self.open -= 1
        self.hung_up.set()

    async def _answer(self, answer: Any, writer: asyncio.StreamWriter) -> None:
        if isinstance(answer, dict | bytes):
            answer = (200, answer)
        if isinstance(answer, tuple):
            status, content, *headers = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}"]
            writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + data)
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for item in answer:
                if item == "drop":
                    writer.transport.abort()
                    return
                if item == "hang":
                    await _until_closed(writer)
                if item == "silence":
                    await asyncio.Event().wait()
                data = item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n"
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _until_closed(writer: asyncio.StreamWriter) -> None:
    while True:  # a comment line is what a real server sends to keep a stream alive
        writer.write(b"3\r\n:\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


def spec(endpoint: Endpoint, **options: Any) -> ModelSpec:
    return ModelSpec(name="far", format="openai", path="", options={"base_url": endpoint.url, **options})

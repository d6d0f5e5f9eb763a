"""The clients of `soak.py`: `python clients.py host:port model clients seconds`; prints what became of it as JSON.

Plain sockets, so that nothing is retried or smoothed over. Each client keeps its connection for some requests, then
takes a new one; every other request is streamed, and some clients leave in mid-stream.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

LONGEST_ANSWER = 32
REQUESTS_A_CONNECTION = 10
LEAVE = 0.05
LAST_ANSWER_S = 120.0  # after the end of the load
TOPICS = ("rivers", "the moon", "bread", "old maps", "bees", "bridges", "winter", "music", "salt", "clocks")


@dataclass
class Outcomes:
    """Requests by what became of them; `errors` by what went wrong."""

    answered: int = 0
    busy: int = 0
    left: int = 0
    tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Client:
    """One user: asks, waits for the answer, asks again."""

    def __init__(self, netloc: str, model: str, number: int, outcomes: Outcomes) -> None:
        self._host, port = netloc.split(":")
        self._port = int(port)
        self._model = model
        self._random = random.Random(number)
        self._outcomes = outcomes

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                await self._connection(until)
            except (OSError, EOFError, ValueError) as error:
                self._outcomes.errors[type(error).__name__] += 1
                await asyncio.sleep(0.1)

    async def _connection(self, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            for _ in range(REQUESTS_A_CONNECTION):
                if time.monotonic() >= until or not await self._ask(reader, writer):
                    break
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False where the connection cannot be used any more."""
        stream = self._random.random() < 0.5
        leave = stream and self._random.random() < LEAVE
        writer.write(self._request(stream))
        status, headers = await _head(reader)
        if leave and status == 200:
            await reader.readline()
            self._outcomes.left += 1
            return False
        body = await _body(reader, headers)
        if status == 429:
            self._outcomes.busy += 1
            await asyncio.sleep(float(headers["retry-after"]))
        elif status != 200:
            self._outcomes.errors[f"status {status}"] += 1
        elif (tokens := _tokens(body, stream)) is None:
            self._outcomes.errors["incomplete answer"] += 1
        else:
            self._outcomes.answered += 1
            self._outcomes.tokens += tokens
        return headers.get("connection") != "close"

    def _request(self, stream: bool) -> bytes:
        choose = self._random.choice
        text = f"Tell me about {choose(TOPICS)} and {choose(TOPICS)}, number {self._random.randrange(10**6)}."
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": self._random.randint(1, LONGEST_ANSWER),
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        }
        data = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _tokens(body: bytes, stream: bool) -> int | None:
    """Tokens of a whole answer; None where it is not whole."""
    if stream:
        *events, last, end = body.decode().split("\n\n")
        if (last, end) != ("data: [DONE]", ""):
            return None
        body = events[-1].removeprefix("data: ").encode()
    tokens: int | None = json.loads(body).get("usage", {}).get("completion_tokens")
    return tokens


async def main() -> None:
    netloc, model, n_clients, seconds = sys.argv[1:]
    outcomes = Outcomes()
    until = time.monotonic() + float(seconds)
    clients = [Client(netloc, model, number, outcomes) for number in range(int(n_clients))]
    running = [asyncio.create_task(client.run(until)) for client in clients]
    _, unanswered = await asyncio.wait(running, timeout=float(seconds) + LAST_ANSWER_S)
    if unanswered:
        outcomes.errors["unanswered"] = len(unanswered)
    print(json.dumps(vars(outcomes)), flush=True)
    for task in unanswered:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main())

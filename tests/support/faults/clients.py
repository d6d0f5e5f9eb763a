"""Clients that know what each answer must be, and so notice one that is wrong, doubled, late or missing."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

CHAT = "/v1/chat/completions"
_QUESTIONS, _LONGEST = 8, 250
_THINK_S = 0.3


@dataclass(frozen=True)
class Question:
    """What a client may ask. The answer is greedy, so that it is always the same."""

    text: str
    max_tokens: int


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        outcomes: requests, by how they ended.
        wrong: what must not be.
        latest_s: of each stream that broke, the seconds from the fault to its error.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latest_s: list[float] = field(default_factory=list)


class Clients:
    """Half of them stream, half want their answer whole. Each asks again a moment after it was answered."""

    def __init__(self, http: httpx.AsyncClient, model: str, randomly: random.Random) -> None:
        self.seen = Seen()
        self._http = http
        self._model = model
        self._random = randomly
        self._faults: list[
            tuple[float, float]
        ] = []  # when one began, and within how many seconds errors must come
        self._answers: dict[Question, str] = {}
        self._ended = False

    @classmethod
    @asynccontextmanager
    async def asking(
        cls, url: str, model: str, randomly: random.Random, count: int
    ) -> AsyncGenerator[Clients]:
        """So many clients, who finish what they have asked at the end."""
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
            clients = cls(http, model, randomly)
            await clients._learn()
            tasks = [asyncio.create_task(clients._ask_on(n % 2 == 0)) for n in range(count)]
            try:
                yield clients
            finally:
                clients._ended = True
                await asyncio.gather(*tasks)

    def fault(self, within_s: float) -> None:
        """A fault begins now. Streams that break by it must have their error in this time."""
        self._faults.append((time.monotonic(), within_s))

    async def _learn(self) -> None:
        """Ask every question while all is well."""
        for number in range(_QUESTIONS):
            question = Question(f"Question {number}", self._random.randint(2, _LONGEST))
            answer = await self._http.post(CHAT, json=self._body(question))
            self._answers[question] = answer.json()["choices"][0]["message"]["content"]

    def _body(self, question: Question, *, stream: bool = False) -> dict[str, object]:
        messages = [{"role": "user", "content": question.text}]
        sampling = {"max_tokens": question.max_tokens, "temperature": 0, "ignore_eos": True}
        return {"model": self._model, "messages": messages, "stream": stream, **sampling}

    async def _ask_on(self, streams: bool) -> None:
        while not self._ended:
            question = self._random.choice(list(self._answers))
            try:
                outcome = await (self._streamed if streams else self._whole)(question)
            except httpx.HTTPError as error:
                outcome = "connection lost"
                self.seen.wrong.append(f"the connection broke: {error!r}")
            self.seen.outcomes[outcome] += 1
            await asyncio.sleep(self._random.uniform(0, _THINK_S))

    async def _whole(self, question: Question) -> str:
        answer = await self._http.post(CHAT, json=self._body(question))
        if answer.status_code != 200:
            self.seen.wrong.append(f"a whole answer was {answer.status_code}: {answer.text[:300]}")
        elif answer.json()["choices"][0]["message"]["content"] != self._answers[question]:
            self.seen.wrong.append(f"a whole answer was another one: {answer.text[:300]}")
        return f"whole {answer.status_code}"

    async def _streamed(self, question: Question) -> str:
        async with self._http.stream("POST", CHAT, json=self._body(question, stream=True)) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode()
                self.seen.wrong.append(
                    f"a stream that had sent nothing was {answer.status_code}: {text[:300]}"
                )
                return f"stream {answer.status_code}"
            lines = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
        ended_at = time.monotonic()
        events = [json.loads(line.removeprefix("data: ")) for line in lines]
        choices = [choice for event in events for choice in event.get("choices", ())]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        if error := next((event["error"] for event in events if "error" in event), None):
            self._judge_broken(question, text, error["message"], ended_at)
            return "stream broken"
        finished = any(choice["finish_reason"] for choice in choices)
        if not finished or text != self._answers[question]:
            self.seen.wrong.append(f"a stream ended with {text!r}, finished: {finished}")
        return "stream 200"

    def _judge_broken(self, question: Question, text: str, message: str, ended_at: float) -> None:
        if not text:
            self.seen.wrong.append(f"a stream that had sent nothing got an error: {message}")
        if not self._answers[question].startswith(text):
            self.seen.wrong.append(f"a stream that broke had sent {text!r}")
        since = [(ended_at - began_at, within_s) for began_at, within_s in self._faults]
        if not any(0 <= took_s <= within_s for took_s, within_s in since):
            last_s = since[-1][0] if since else float("nan")
            self.seen.wrong.append(f"a stream broke {last_s:.2f} s after the last fault: {message}")
        self.seen.latest_s.append(min((took_s for took_s, _ in since), default=0.0))

"""A language model of one line, whose probabilities a test can work out by itself, in process and behind HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import AsyncGenerator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from lqmf_runner.types import Chunk, GenerationRequest, Score, Usage
from tests.support.engine.scripted import WordTokens

N_VOCAB = 97


def logprob(before: int, token: int) -> float:
    """log p(token | the one before it): positive weights that depend on both, normalised over the vocabulary."""
    total = sum(_weight(before, other) for other in range(N_VOCAB))
    return math.log(_weight(before, token % N_VOCAB) / total)


def best(before: int) -> int:
    """The most likely token."""
    return max(range(N_VOCAB), key=lambda token: _weight(before, token))


def _weight(before: int, token: int) -> float:
    return 1.0 + (before * 31 + token * token * 17) % 89


class ToyModel(WordTokens):
    """Scores by `logprob`; answers every prompt with its last word, character by character."""

    def __init__(self) -> None:
        super().__init__(lambda *_: [])

    async def score(self, tokens: Sequence[int] | str) -> Score:
        assert not isinstance(tokens, str)
        pairs = list(itertools.pairwise(tokens))
        return Score(
            token_ids=tuple(tokens),
            logprobs=(None, *(logprob(before, token) for before, token in pairs)),
            greedy=(None, *(best(before) == token % N_VOCAB for before, token in pairs)),
        )

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        self.requests.append(request)
        text = answer_to(request.prompt or "")
        yield [Chunk(text=text, token_ids=tuple(map(ord, text)))]
        yield [Chunk(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=len(text)))]


def answer_to(prompt: str) -> str:
    """What it generates: the word after the last "Word: "."""
    return " " + prompt.rsplit("Word: ", 1)[-1].split("\n")[0]


class ToyHandler(BaseHTTPRequestHandler):
    """The same model as an OpenAI endpoint that echoes log-probabilities, with /tokenize and /detokenize."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "toy"}]})

    def do_POST(self) -> None:
        model = ToyModel()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize":
            text, special = body["prompt"], body["add_special_tokens"]
            self._reply({"tokens": asyncio.run(model.tokenize(text, special=special))})
        elif body.get("echo"):
            tokens = body["prompt"]
            values = [None, *(logprob(a, b) for a, b in itertools.pairwise(tokens))]
            top = [None, *({"best": max(logprob(a, t) for t in range(N_VOCAB))} for a in tokens[:-1])]
            logprobs = {"token_logprobs": [*values, -0.5], "top_logprobs": [*top, {"x": -0.5}]}
            self._reply({"choices": [{"text": "", "logprobs": logprobs}]})
        else:
            text = answer_to(body["prompt"])
            choice = {"index": 0, "text": text, "finish_reason": "stop"}
            data = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\ndata: [DONE]\n\n"
            self._reply(data, "text/event-stream")

    def _reply(self, content: Any, kind: str = "application/json") -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

"""POST /v1/completions: texts or token ids go on; with `echo` and `logprobs`, texts are scored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, post
from litestar.types import Receive, Send

from ...engine import EngineClient
from ...errors import FieldError
from ...openai_api.answers import keep_alive_seconds, new_id, sampling_params, usage_counts
from ...openai_api.constraints import answer_constraint
from ...openai_api.schemas import CompletionChoice, CompletionLogprobs, CompletionRequest, TextCompletion
from ...openai_api.sse import encode_json
from ...openai_api.stream import ChoiceEvents
from ...types import Chunk, Completion, GenerationRequest, TokenLogprob, Usage
from ..answers.body import json_body
from ..answers.generation import Answer, Generation, choices, generation, send_events, send_json
from ..services import services_of
from ..watch.observe import ServedRequest
from .tokens import token_texts

ROUTE = "/v1/completions"
MAX_ANSWERS = 2048
Prompt = str | tuple[int, ...]


@post(ROUTE, status_code=200, dto=json_body(CompletionRequest), return_dto=None, tags=["OpenAI"])
async def completions(data: CompletionRequest, request: Request[Any, Any, Any]) -> Answer[TextCompletion]:
    """Go on with a text; with `stream`, as server-sent events."""
    prompts, n = _prompts(data), data.n or 1
    requests = [one for prompt in prompts for one in choices(_generation_request(data, prompt), n)]
    served = ServedRequest(ROUTE, data.model, bool(data.stream), len(requests), request.scope)
    keep_alive_s = keep_alive_seconds(data.keep_alive)
    services = services_of(request)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(services.pool, services.observer, served, receive, keep_alive_s) as current:
            echoes = await _echoes(current, prompts, data.logprobs) if data.echo else []
            wanted = requests if data.max_tokens != 0 else []
            if data.stream:
                events = CompletionEvents(
                    [echoes[index // n] if echoes else Echo() for index in range(len(requests))],
                    model=data.model,
                    n=len(requests),
                    include_usage=bool(data.stream_options and data.stream_options.include_usage),
                    logprobs=data.logprobs is not None,
                )
                await send_events(current, wanted, send, events, per_prompt=n)
            else:
                answers = await current.complete(wanted, per_prompt=n) or [_NOTHING] * len(requests)
                body = _completion(data, echoes, n, answers, current.usage)
                await send_json(current, send, body)

    return Answer(answer)


class Echo(msgspec.Struct):
    """A prompt as it is given back: its text and, where they were asked for, its tokens' log-probabilities."""

    text: str = ""
    logprobs: list[TokenLogprob | None] = []
    texts: list[str] = []


_NOTHING = Completion(text="", token_ids=(), finish_reason="length", usage=Usage())


class CompletionEvents(ChoiceEvents):
    """`text_completion`, with the prompt first where it is to be echoed."""

    kind = "text_completion"
    id_prefix = "cmpl"
    opening = b'"text":'
    closing = b""

    def __init__(self, echoes: list[Echo], **options: Any) -> None:
        super().__init__(**options)
        self._echoes = echoes
        self._offsets = [0] * len(echoes)

    def begin(self, index: int) -> list[bytes]:
        """The echoed prompt."""
        echo = self._echoes[index]
        if not echo.text:
            return []
        if not echo.logprobs:
            return [self.event(index, b'"text":' + encode_json(echo.text))]
        logprobs = encode_json(_logprobs(echo, (), 0))
        self._offsets[index] = sum(map(len, echo.texts))
        return [self.event(index, b'"text":' + encode_json(echo.text), logprobs=logprobs)]

    def finish(self, index: int, reason: str) -> list[bytes]:
        """An empty text with the reason."""
        return [self.event(index, b'"text":""', finish=encode_json(reason))]

    def logprobs(self, index: int, chunk: Chunk) -> Any:
        """Those of a chunk's tokens."""
        start = self._offsets[index]
        self._offsets[index] = start + sum(len(token.text) for token in chunk.logprobs)
        return _logprobs(Echo(), chunk.logprobs, start)

    def end(self, usage: Usage) -> bytes:
        """Prompts that nothing was to follow, and the end."""
        left = [index for index in range(len(self._echoes)) if index not in self._begun]
        out = [part for index in left for part in (*self.begin(index), *self.finish(index, "length"))]
        return b"".join(out) + super().end(usage)


def _generation_request(data: CompletionRequest, prompt: Prompt) -> GenerationRequest:
    if data.suffix:
        raise FieldError("suffix is not supported", param="suffix")
    if data.best_of not in (None, data.n or 1):
        raise FieldError("best_of is only supported where it is n", param="best_of")
    if data.max_tokens == 0 and not data.echo:
        raise FieldError("max_tokens=0 needs echo=true", param="max_tokens")
    sampling = sampling_params(
        data,
        max_tokens=data.max_tokens,
        logprobs=data.logprobs,
        constraint=answer_constraint(data.response_format, data.structured_outputs),
    )
    if isinstance(prompt, str):
        return GenerationRequest(prompt=prompt, sampling=sampling)
    return GenerationRequest(prompt_tokens=prompt, sampling=sampling)


def _prompts(data: CompletionRequest) -> list[Prompt]:
    """One or more prompts, each a text or token ids."""
    given = data.prompt
    if isinstance(given, str):
        return [given]
    if not given:
        raise FieldError("'prompt' is empty", param="prompt")
    if len(given) * (data.n or 1) > MAX_ANSWERS and not isinstance(given[0], int):
        raise FieldError(f"more than {MAX_ANSWERS} answers are asked for at once", param="prompt")
    if all(isinstance(item, int) for item in given):
        return [tuple(given)]  # type: ignore[arg-type]
    if all(isinstance(item, str) for item in given):
        return list(given)  # type: ignore[arg-type]
    if all(isinstance(item, list) for item in given):
        return [tuple(item) for item in given]  # type: ignore[arg-type]
    raise FieldError("'prompt' mixes texts and token ids", param="prompt")


async def _echoes(current: Generation, prompts: Sequence[Prompt], n_top: int | None) -> list[Echo]:
    return await asyncio.gather(*(_echo(current, prompt, n_top) for prompt in prompts))


async def _echo(current: Generation, prompt: Prompt, n_top: int | None) -> Echo:
    engine: EngineClient = current.engine
    if n_top is None:
        return Echo(prompt if isinstance(prompt, str) else await engine.detokenize(prompt))
    tokens = await engine.tokenize(prompt, special=True) if isinstance(prompt, str) else list(prompt)
    score = await engine.score(tokens, top=n_top)
    tops = score.top or ((),) * len(tokens)
    texts = await token_texts(current.model, engine, tokens)
    logprobs = [
        None if logprob is None else TokenLogprob(token, text, logprob, tuple(top))
        for token, text, logprob, top in zip(tokens, texts, score.logprobs, tops, strict=True)
    ]
    return Echo(prompt if isinstance(prompt, str) else "".join(texts), logprobs, texts)


def _logprobs(echo: Echo, tokens: Sequence[TokenLogprob], start: int) -> CompletionLogprobs:
    """The echoed prompt's, then those of generated tokens; offsets count characters from `start`."""
    found = CompletionLogprobs([], [], [], [])
    items = [*zip(echo.texts, echo.logprobs, strict=True), *((token.text, token) for token in tokens)]
    for text, token in items:
        found.tokens.append(text)
        found.token_logprobs.append(token.logprob if token else None)
        found.top_logprobs.append(_top(token) if token else None)
        found.text_offset.append(start)
        start += len(text)
    return found


def _top(token: TokenLogprob) -> dict[str, float]:
    """The alternatives by text, the likeliest first; the chosen one is always among them."""
    top: dict[str, float] = {}
    for _, text, logprob in token.top:
        top.setdefault(text, logprob)
    top.setdefault(token.text, token.logprob)
    return top


def _completion(
    data: CompletionRequest, echoes: list[Echo], n: int, answers: Sequence[Completion], usage: Usage
) -> TextCompletion:
    found = []
    for index, answer in enumerate(answers):
        echo = echoes[index // n] if echoes else Echo()
        logprobs = None if data.logprobs is None else _logprobs(echo, answer.logprobs, 0)
        found.append(CompletionChoice(echo.text + answer.text, index, logprobs, answer.finish_reason))
    return TextCompletion(
        id=new_id("cmpl"),
        object="text_completion",
        created=int(time.time()),
        model=data.model,
        choices=found,
        usage=usage_counts(usage),
    )

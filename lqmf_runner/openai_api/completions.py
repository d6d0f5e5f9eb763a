"""Completions: a body to requests that continue texts or token ids, and answers to JSON, whole or streamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import FieldError
from ..types import Chunk, Completion, GenerationRequest, SamplingParams, TokenLogprob, Usage
from .answers import new_id, usage_counts
from .bodies.answer_constraint import answer_constraint
from .bodies.body import NO_LIMIT
from .bodies.sampling import OPENAI_DEFAULTS, sampling_params
from .exchange import Exchange, Scorer, choices
from .schemas import CompletionChoice, CompletionLogprobs, CompletionRequest, TextCompletion
from .sse import encode_json
from .stream import ChoiceEvents

MAX_ANSWERS = 2048
Prompt = str | tuple[int, ...]


class Echo(msgspec.Struct):
    """A prompt in the answer: its text and, if requested, its tokens' log-probabilities."""

    text: str = ""
    logprobs: list[TokenLogprob | None] = []
    texts: list[str] = []


class CompletionExchange(Exchange):
    """A completion of one or more prompts.

    Raises:
        FieldError: fields of the body do not go together, or ask for what is not supported.
    """

    def __init__(self, data: CompletionRequest, defaults: SamplingParams = OPENAI_DEFAULTS) -> None:
        super().__init__(data)
        self._prompts = _prompts(data)
        self._echo = bool(data.echo)
        self._n_top = data.logprobs
        self.n_choices = len(self._prompts) * self.n
        asked = [_generation_request(data, defaults, prompt) for prompt in self._prompts]
        generating = data.max_tokens != 0
        self.requests = [one for request in asked if generating for one in choices(request, self.n)]
        self._echoes = [Echo()] * len(self._prompts)

    async def prepare(self, engine: Scorer, token_texts: dict[int, str]) -> None:
        """Score the prompts that the answer echoes."""
        if self._echo:
            echoes = (_echo(engine, prompt, self._n_top, token_texts) for prompt in self._prompts)
            self._echoes = await asyncio.gather(*echoes)

    def events(self) -> ChoiceEvents:
        """`text_completion` objects."""
        return CompletionEvents(
            [self._echoes[index // self.n] for index in range(self.n_choices)],
            model=self.model,
            fingerprint=self.fingerprint,
            n=self.n_choices,
            include_usage=self._include_usage,
            logprobs=self._n_top is not None,
        )

    def answer(self, completions: Sequence[Completion], usage: Usage) -> TextCompletion:
        """A `text_completion` object."""
        found = []
        for index, completion in enumerate(completions or [_NOTHING] * self.n_choices):
            echo = self._echoes[index // self.n]
            logprobs = None if self._n_top is None else _logprobs(echo, completion.logprobs, 0)
            text = echo.text + completion.text
            found.append(CompletionChoice(text, index, logprobs, completion.finish_reason))
        return TextCompletion(
            id=new_id("cmpl"),
            object="text_completion",
            created=int(time.time()),
            model=self.model,
            choices=found,
            usage=usage_counts(usage),
            system_fingerprint=self.fingerprint,
        )

    def key(self) -> list[Any]:
        """The requests, and the prompts that are echoed."""
        return [*self.requests, *([{"echo": self._prompts, "logprobs": self._n_top}] if self._echo else [])]


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
        """An empty text with the finish reason."""
        return [self.event(index, b'"text":""', finish=encode_json(reason))]

    def logprobs(self, index: int, chunk: Chunk) -> Any:
        """The log-probabilities of a chunk's tokens."""
        start = self._offsets[index]
        self._offsets[index] = start + sum(len(token.text) for token in chunk.logprobs)
        return _logprobs(Echo(), chunk.logprobs, start)

    def end(self, usage: Usage) -> bytes:
        """The prompts for which nothing was generated, then the end."""
        left = [index for index in range(len(self._echoes)) if index not in self._begun]
        out = [part for index in left for part in (*self.begin(index), *self.finish(index, "length"))]
        return b"".join(out) + super().end(usage)


def _generation_request(
    data: CompletionRequest, defaults: SamplingParams, prompt: Prompt
) -> GenerationRequest:
    if data.suffix:
        raise FieldError("suffix is not supported", param="suffix")
    if data.best_of not in (None, data.n or 1):
        raise FieldError("best_of is only supported where it is n", param="best_of")
    if data.max_tokens == 0 and not data.echo:
        raise FieldError("max_tokens=0 needs echo=true", param="max_tokens", hint=NO_LIMIT)
    sampling = sampling_params(
        data,
        defaults,
        max_tokens=None if data.max_tokens == -1 else data.max_tokens,
        logprobs=data.logprobs,
        constraint=answer_constraint(data),
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


async def _echo(engine: Scorer, prompt: Prompt, n_top: int | None, known: dict[int, str]) -> Echo:
    if n_top is None:
        return Echo(prompt if isinstance(prompt, str) else await engine.detokenize(prompt))
    tokens = await engine.tokenize(prompt, special=True) if isinstance(prompt, str) else list(prompt)
    score = await engine.score(tokens, top=n_top)
    tops = score.top or ((),) * len(tokens)
    texts = await _token_texts(engine, tokens, known)
    logprobs = [
        None if logprob is None else TokenLogprob(token, text, logprob, tuple(top))
        for token, text, logprob, top in zip(tokens, texts, score.logprobs, tops, strict=True)
    ]
    return Echo(prompt if isinstance(prompt, str) else "".join(texts), logprobs, texts)


async def _token_texts(engine: Scorer, tokens: Sequence[int], known: dict[int, str]) -> list[str]:
    """The text of each token by itself. The texts are cached, because they never change."""
    missing = sorted(set(tokens) - known.keys())
    texts = await asyncio.gather(*(engine.detokenize([token]) for token in missing))
    known.update(zip(missing, texts, strict=True))
    return [known[token] for token in tokens]


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

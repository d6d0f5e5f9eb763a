"""One request to OpenAI's API with its answer: the generation requests, and the JSON of the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ..types import Completion, GenerationRequest, Score, Usage
from .bodies.sampling import keep_alive_seconds
from .schemas import ChatCompletion, Sampled, TextCompletion
from .stream import ChoiceEvents


class Scorer(Protocol):
    """The part of an engine that echoed prompts need; see `EngineClient`."""

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text."""

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        """Log-probabilities of given tokens."""


class Exchange(ABC):
    """One request and its answer.

    The order of calls: `prepare` with the engine, then generate from `requests`, then `answer` or, in a stream,
    `events`.

    Attributes:
        model: name of the model that is asked.
        stream: whether the answer is to be streamed.
        keep_alive_s: how long the model is to stay loaded afterwards; None leaves that to the server.
        fingerprint: which version of the model answers, where that is known.
        n: choices for each prompt.
        n_choices: choices of the whole answer.
        requests: what to generate, the `n` of a prompt one after the other; empty where prompts are only echoed.
    """

    n_choices: int
    requests: list[GenerationRequest]

    def __init__(self, data: Sampled) -> None:
        self.model = data.model
        self.fingerprint: str | None = None
        self.stream = bool(data.stream)
        self.keep_alive_s = keep_alive_seconds(data.keep_alive)
        self.n = data.n or 1
        self._include_usage = bool(data.stream_options and data.stream_options.include_usage)

    @abstractmethod
    async def prepare(self, engine: Scorer, token_texts: dict[int, str]) -> None:
        """Get everything from the engine that the answer needs besides the generated text.

        Args:
            token_texts: the texts of tokens that are known; new ones are added.
        """

    @abstractmethod
    def events(self) -> ChoiceEvents:
        """What turns chunks into the events of a stream."""

    @abstractmethod
    def answer(self, completions: Sequence[Completion], usage: Usage) -> ChatCompletion | TextCompletion:
        """The whole answer. `completions` are those of `requests`, in their order; `usage` is that of all."""

    def key(self) -> list[Any]:
        """Everything that the answer depends on, except the model."""
        return list(self.requests)


def choices(request: GenerationRequest, n: int) -> list[GenerationRequest]:
    """The same request n times. Each has its own seed, otherwise all answers would be equal."""
    seed = request.sampling.seed
    if n == 1 or seed is None:
        return [request] * n
    return [
        msgspec.structs.replace(
            request, sampling=msgspec.structs.replace(request.sampling, seed=_next_seed(seed, index))
        )
        for index in range(n)
    ]


def _next_seed(seed: int, index: int) -> int:
    """Never -1, which draws a seed."""
    down = seed < 0 or seed + index >= 2**63
    return seed - index if down and seed - index >= -(2**63) else seed + index


def total_usage(usages: Mapping[int, Usage], per_prompt: int) -> Usage:
    """Every prompt once, and everything generated; times are those of the slowest.

    Args:
        usages: by the number of the request.
        per_prompt: consecutive requests that have the same prompt.
    """
    prompts = [usage for index, usage in usages.items() if index % per_prompt == 0]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in prompts),
        cached_tokens=sum(usage.cached_tokens for usage in prompts),
        completion_tokens=sum(usage.completion_tokens for usage in usages.values()),
        drafted_tokens=sum(usage.drafted_tokens for usage in usages.values()),
        accepted_tokens=sum(usage.accepted_tokens for usage in usages.values()),
        draft_model_drafted_tokens=sum(usage.draft_model_drafted_tokens for usage in usages.values()),
        draft_model_accepted_tokens=sum(usage.draft_model_accepted_tokens for usage in usages.values()),
        queue_s=max(usage.queue_s for usage in usages.values()),
        prefill_s=max(usage.prefill_s for usage in usages.values()),
        decode_s=max(usage.decode_s for usage in usages.values()),
    )

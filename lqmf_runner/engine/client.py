"""`EngineClient`: the interface of a loaded model, for the rest of the program."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from ..errors import ConflictError, InvalidRequestError, LqmfError, UserInputError
from ..types import (
    Chunk,
    Completion,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    OptionLogprobs,
    PromptCacheUse,
    ReplicaState,
    Score,
    Window,
    WindowScore,
)


class EngineClient(ABC):
    """A loaded model that answers requests. One implementation runs a worker process, one calls an endpoint.

    All methods may be called concurrently from one event loop. Use as an async context manager, or call `close`.
    """

    info: ModelInfo
    place: str = ""
    """Where it runs, for people: a node of a cluster, or an endpoint's host and port. Empty is this machine."""
    _on_lost: Callable[[LqmfError], None] | None = None
    _untold: LqmfError | None = None

    @property
    def on_lost(self) -> Callable[[LqmfError], None] | None:
        """Called once when the engine dies by itself (not by `close`). If it has died already, it is called soon after
        this is set.
        """
        return self._on_lost

    @on_lost.setter
    def on_lost(self, callback: Callable[[LqmfError], None] | None) -> None:
        self._on_lost = callback
        if callback is not None and self._untold is not None:
            asyncio.get_running_loop().call_soon(callback, self._untold)
            self._untold = None

    def report_loss(self, error: LqmfError) -> None:
        """Call `on_lost` because the engine has died. For engines."""
        if self._on_lost is None:
            self._untold = error
        else:
            self._on_lost(error)

    @abstractmethod
    def stream(self, request: GenerationRequest, *, whole: bool = False) -> AsyncGenerator[list[Chunk], None]:
        """Stream the answer. Each item holds all chunks that have arrived, so that they can be sent on together.

        The last chunk has `finish_reason` and `usage`. Closing the iterator early cancels the request at the
        engine's next step.

        Args:
            whole: the text is not wanted before the answer is complete. The engine may then send the first token
                and all others together, which saves both sides the work for each.

        Raises:
            InvalidRequestError: the request is malformed or longer than the context.
            QueueFullError: too many requests wait.
            EngineLostError: the engine died; all its requests fail with this at once.
        """

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        """Like `stream`, one chunk at a time."""
        async with aclosing(self.stream(request)) as stream:
            async for chunks in stream:
                for chunk in chunks:
                    yield chunk

    @abstractmethod
    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        """Log-probability of every token given the ones before it. A string is tokenized without special tokens.

        Args:
            top: how many of the most likely tokens to report at each position, at most 20.
        """

    async def score_window(self, window: Window) -> WindowScore:
        """Score the later tokens of a window, and record or compare the full next-token distributions.

        Raises:
            UserInputError: the engine has no access to full distributions.
            EngineError: NaN in the logits, or the file of the distributions cannot be used.
        """
        raise UserInputError(
            f"'{self.info.name}' runs behind an endpoint, which does not give full next-token distributions",
            hint="perplexity and KL divergence need a model on this machine; leave out reference=",
        )

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        """The probability of each option as the beginning of the answer. Nothing is generated.

        Args:
            request: the prompt; its sampling settings do not matter.
            options: each as the forms it may take ("yes", "Yes", " yes"), whose probabilities are added. Forms of
                several tokens count only for an option that has no form of one token, and then the first does.

        Raises:
            InvalidRequestError: the prompt is too long, or two options are the same to this model.
            RemoteEngineError: the endpoint does not tell the log-probabilities of its most likely tokens.
        """
        raise InvalidRequestError(f"'{self.info.name}' does not tell the log-probabilities of next tokens")

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """A vector for each text, or for its tokens, from a model whose `info.embeddings` is true.

        Raises:
            InvalidRequestError: this model does not, or a text is longer than it takes.
        """
        raise InvalidRequestError(
            f"'{self.info.name}' does not give embeddings", hint="use a GGUF that is made for embeddings"
        )

    @abstractmethod
    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of plain text; `special` adds the model's usual beginning-of-sequence token."""

    @abstractmethod
    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""

    @abstractmethod
    async def stats(self) -> EngineStats:
        """Counters since the load."""

    @abstractmethod
    async def memory(self) -> MemoryUse:
        """Memory that the engine uses now, and its maximum so far (zeros if unknown)."""

    def replicas(self) -> list[ReplicaState]:
        """The engines that this one spreads requests over. Empty for a single engine."""
        return []

    async def scale(self, count: int) -> None:
        """Spread requests over so many engines; returns when the new ones answer.

        Raises:
            ConflictError: there cannot be so many.
            LqmfError: what a start failed with; the number is then what it was.
        """
        raise ConflictError(f"'{self.info.name}' is a single engine and has no replicas")

    async def reset_prefix_cache(self) -> bool:
        """Drop the prompts that are cached for reuse. False if the engine has no such call."""
        return False

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """What the engine keeps of earlier prompts in main memory, as it last reported."""
        return PromptCacheUse()

    async def shrink_prompt_cache(self, mb: float) -> None:
        """Drop prompts from main memory until they take at most `mb`. Returns before this is done."""
        return

    @abstractmethod
    async def close(self) -> None:
        """Unload the model and give back all its memory. May be called twice."""

    async def complete(self, request: GenerationRequest) -> Completion:
        """The whole answer at once; see `stream` for the errors."""
        async with aclosing(self.stream(request, whole=True)) as stream:
            return Completion.of([chunk async for chunks in stream for chunk in chunks])

    async def __aenter__(self) -> EngineClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

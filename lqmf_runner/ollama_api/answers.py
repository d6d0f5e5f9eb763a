"""Answers as Ollama's objects: complete, or as the lines of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import LqmfError
from ..openai_api.answers import choice_logprobs
from ..openai_api.errors import error_body, public_error
from ..openai_api.schemas import ContentLogprob, ToolCall
from ..openai_api.sse import encode_json
from ..openai_api.tool_calls import ToolCallReader
from ..types import Chunk, Completion, TokenLogprob, Usage
from .schemas import (
    AnswerTurn,
    Called,
    CalledFunction,
    Figures,
    GenerateAnswer,
    GenerateRequest,
    OllamaChatAnswer,
    OllamaChatRequest,
    OllamaError,
)


def line(body: Any) -> bytes:
    """One line of a stream."""
    return encode_json(body) + b"\n"


def ollama_error(error: LqmfError) -> OllamaError:
    """The JSON body of an error."""
    return OllamaError(error_body(error).error.message)


class Piece(msgspec.Struct):
    """The part of an answer between two times."""

    text: str = ""
    thoughts: str = ""
    calls: list[ToolCall] = []
    logprobs: tuple[TokenLogprob, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.thoughts or self.calls or self.logprobs)


class Answering(ABC):
    """One answer of the model, turned into objects while it streams.

    Args:
        figures: what the answer took, of its usage, when it has ended.
    """

    def __init__(
        self, data: OllamaChatRequest | GenerateRequest, figures: Callable[[Usage], Figures]
    ) -> None:
        self._model = data.model
        self._figures = figures
        self._calls: ToolCallReader | None = None
        self._reason = "stop"

    @abstractmethod
    def said(self, piece: Piece, **end: Any) -> Any:
        """The object for a piece. `end` are the fields of the last one."""

    def whole(self, completion: Completion, usage: Usage) -> Any:
        """The object for an answer that is not streamed."""
        found, rest = self._read(completion.text), self._rest()
        text = found.text + rest.text
        piece = Piece(text, completion.reasoning, [*found.calls, *rest.calls], completion.logprobs)
        self._reason = completion.finish_reason
        return self._last(piece, usage)

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The lines for some chunks."""
        out: list[bytes] = []
        for chunk in chunks:
            piece = self._read(chunk.text)
            piece.thoughts = chunk.reasoning
            piece.logprobs = chunk.logprobs
            if piece:
                out.append(line(self.said(piece, done=False)))
            self._reason = chunk.finish_reason or self._reason
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        """What was held back, and the last line."""
        held = self._rest()
        before = line(self.said(held, done=False)) if held else b""
        return before + line(self._last(Piece(), usage))

    def failed(self, error: Exception) -> bytes:
        """The line for an error within the stream."""
        return line(ollama_error(public_error(error)))

    def _read(self, text: str) -> Piece:
        text, calls = self._calls.feed(text) if self._calls else (text, [])
        return Piece(text, calls=calls)

    def _rest(self) -> Piece:
        text, calls = self._calls.end() if self._calls else ("", [])
        return Piece(text, calls=calls)

    def _last(self, piece: Piece, usage: Usage) -> Any:
        figures = msgspec.structs.asdict(self._figures(usage))
        return self.said(piece, done=True, done_reason=self._reason, **figures)


class ChatAnswering(Answering):
    """An answer to a chat."""

    def __init__(self, data: OllamaChatRequest, figures: Callable[[Usage], Figures]) -> None:
        super().__init__(data, figures)
        if data.tools:
            self._calls = ToolCallReader({tool["function"]["name"] for tool in data.tools})

    def said(self, piece: Piece, **end: Any) -> OllamaChatAnswer:
        """See `Answering`."""
        message = AnswerTurn(
            content=piece.text,
            thinking=piece.thoughts or UNSET,
            tool_calls=[_called(call) for call in piece.calls] or UNSET,
        )
        return OllamaChatAnswer(
            model=self._model, created_at=now(), message=message, logprobs=_logprobs(piece), **end
        )


class GenerateAnswering(Answering):
    """An answer to a prompt."""

    def said(self, piece: Piece, **end: Any) -> GenerateAnswer:
        """See `Answering`."""
        return GenerateAnswer(
            model=self._model,
            created_at=now(),
            response=piece.text,
            thinking=piece.thoughts or UNSET,
            logprobs=_logprobs(piece),
            **end,
        )


def now() -> datetime:
    """The time of an answer."""
    return datetime.now(UTC)


def _called(call: ToolCall) -> Called:
    return Called(call.id, CalledFunction(call.function.name, msgspec.json.decode(call.function.arguments)))


def _logprobs(piece: Piece) -> list[ContentLogprob] | UnsetType:
    return choice_logprobs(piece.logprobs).content or UNSET

"""The answers of an endpoint: the events of a stream, log-probabilities, scores, vectors, its models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import EndpointSetupError, RemoteEngineError
from ...types import Chunk, Embeddings, Score, TokenLogprob, Usage
from .calls import CallReader
from .errors import error_text

# Finish reasons that are not OpenAI's, and their meaning. Any other unknown one counts as a regular end.
_REASONS = {"max_tokens": "length", "model_length": "length"}
_OPENAI_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
# The fields in which endpoints send thoughts. Some use two names at once.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StreamReader:
    """Reads the events of one streamed answer.

    Attributes:
        ended: whether the endpoint has said that the answer is whole.
        finish_reason: the endpoint's, under OpenAI's name; "stop" until it says one.
    """

    def __init__(self) -> None:
        self.ended = False
        self.finish_reason = "stop"
        self._counts: dict[str, Any] = {}
        self._n_pieces = 0
        self._calls = CallReader()

    def read(self, data: str) -> list[Chunk]:
        """The chunks that the data of an event brings: usually one.

        Raises:
            RemoteEngineError: it is not an object as OpenAI's, or says that the endpoint failed.
        """
        data = data.strip()
        self.ended = self.ended or data == "[DONE]"
        event = _event(data)
        if event is None:
            return []
        try:
            usage = dict(event.get("usage") or {})
            self._counts |= {name: count for name, count in usage.items() if count is not None}
            return [chunk for choice in event.get("choices") or () if (chunk := self._choice(choice))]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RemoteEngineError("the endpoint sent an event whose fields are not OpenAI's") from None

    def tool_calls(self) -> str:
        """Tool calls that the endpoint has cut out of the answer, as the text that most models write them in."""
        return "".join(
            f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}\n</tool_call>'
            for call in self._calls.calls
        )

    def usage(self, *, prefill_s: float, decode_s: float) -> Usage:
        """The endpoint's counts, which may come in several events. Without them the pieces of text are counted."""
        return Usage(
            prompt_tokens=_count(self._counts.get("prompt_tokens"), 0),
            cached_tokens=_count(_cached(self._counts), 0),
            completion_tokens=_count(self._counts.get("completion_tokens"), 0) or self._n_pieces,
            prefill_s=prefill_s,
            decode_s=decode_s,
        )

    def _choice(self, choice: dict[str, Any]) -> Chunk | None:
        delta = choice.get("delta") or ({} if "delta" in choice else choice.get("message")) or {}
        text, thoughts = _channels(delta.get("content") or delta.get("refusal") or choice.get("text") or "")
        thoughts += _channels(next((delta[name] for name in _THOUGHTS if delta.get(name)), ""))[0]
        for piece in delta.get("tool_calls") or ():
            self._calls.read(piece)
        if old := delta.get("function_call"):
            self._calls.read({"function": old})
        if reason := choice.get("finish_reason"):
            known = reason if reason in _OPENAI_REASONS else _REASONS.get(str(reason), "stop")
            self.finish_reason, self.ended = known, True
        logprobs = read_logprobs(choice)
        self._n_pieces += bool(text or thoughts)
        if not (text or thoughts or logprobs):
            return None
        return Chunk(text=text, reasoning=thoughts, logprobs=logprobs)


def _channels(content: Any) -> tuple[str, str]:
    """Text and thoughts of a content that is a text or a list of parts.

    Raises:
        TypeError, KeyError: it is neither.
    """
    if isinstance(content, str):
        return content, ""
    text = thoughts = ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif "thinking" in part:  # Mistral's is a list of parts itself
            thoughts += _channels(part["thinking"])[0]
        elif isinstance(part.get("text"), str):
            text += part["text"]
    return text, thoughts


def _count(value: Any, otherwise: int) -> int:
    """A number of tokens, which some endpoints write as 3.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0:
        return otherwise
    return int(value)


def _cached(counts: dict[str, Any]) -> Any:
    details = counts.get("prompt_tokens_details")
    return details.get("cached_tokens") if isinstance(details, dict) else None


def _event(data: str) -> dict[str, Any] | None:
    """The object of one server-sent event, or None where there is none."""
    if not data or data == "[DONE]":
        return None
    try:
        event: dict[str, Any] = _read_json(data)
    except ValueError:
        raise RemoteEngineError("the endpoint sent an event that is not JSON") from None
    if not isinstance(event, dict):
        raise RemoteEngineError("the endpoint sent an event that is not an object")
    if error := _failure(event):
        raise RemoteEngineError(f"the endpoint failed in mid-stream: {error_text(error)}")
    return event


def _failure(event: dict[str, Any]) -> Any:
    """The error in an event, in OpenAI's form or in that of FastAPI, vLLM and LMDeploy."""
    if "choices" in event or event.get("error"):
        return event.get("error")
    is_error = event.get("object") == "error" or event.get("type") == "error"
    return event.get("detail") or (event.get("message", event) if is_error or "code" in event else None)


def _read_json(data: str) -> Any:
    """Read JSON. Unpaired surrogates are replaced, because they cannot be written to a file."""
    found = json.loads(data)
    if not _SURROGATE.search(data):
        return found
    text = json.dumps(found, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def read_logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """A choice's log-probabilities, in the shape of chat completions or of completions."""
    given = choice.get("logprobs") or {}
    chat = tuple(
        TokenLogprob(
            token_id=-1,
            text=entry.get("token", ""),
            logprob=entry["logprob"],
            top=tuple((-1, top.get("token", ""), top["logprob"]) for top in entry.get("top_logprobs") or ()),
            data=_own_bytes(entry),
            top_data=tuple(_own_bytes(top) for top in entry.get("top_logprobs") or ()),
        )
        for entry in given.get("content") or ()
    )
    plain = zip(given.get("tokens") or (), given.get("token_logprobs") or (), strict=False)
    tops = given.get("top_logprobs") or ()
    return chat + tuple(
        TokenLogprob(
            token_id=-1,
            text=text,
            logprob=logprob,
            top=most_likely(tops[i] or {}, len(tops[i] or {})) if i < len(tops) else (),
        )
        for i, (text, logprob) in enumerate(plain)
        if logprob is not None
    )


def _own_bytes(entry: dict[str, Any]) -> bytes | None:
    """The bytes of a token if the endpoint reports them and they differ from its text."""
    try:
        found = bytes(entry.get("bytes") or entry.get("token", "").encode())
    except (TypeError, ValueError):
        return None
    return None if found == entry.get("token", "").encode() else found


def most_likely(row: dict[str, float], n: int) -> tuple[tuple[int, str, float], ...]:
    """The n most likely of a row of log-probabilities by token text, as (-1, text, log-probability)."""
    return tuple((-1, text, value) for text, value in sorted(row.items(), key=lambda item: -item[1])[:n])


def read_score(choice: dict[str, Any], token_ids: Sequence[int], *, top: int) -> Score:
    """The score of the prompt that a choice echoes.

    Raises:
        RemoteEngineError: it does not echo log-probabilities.
    """
    answer = echoed_logprobs(choice)
    n = len(token_ids)
    values = answer["token_logprobs"][:n]
    best = answer.get("top_logprobs") or [None] * len(values)
    greedy = [
        None if v is None or not row else math.isclose(v, max(row.values()))
        for v, row in zip(values, best, strict=False)
    ]
    alternatives = tuple(most_likely(row or {}, top) for row in best[:n]) if top else ()
    return Score(token_ids=tuple(token_ids), logprobs=tuple(values), greedy=tuple(greedy), top=alternatives)


def echoed_logprobs(choice: dict[str, Any]) -> dict[str, Any]:
    """The log-probabilities of an echoed prompt, as OpenAI's completions have them.

    Raises:
        RemoteEngineError: there are none.
    """
    answer: dict[str, Any] | None = choice.get("logprobs")
    if not answer or len(answer.get("token_logprobs") or ()) < 2:
        raise RemoteEngineError(
            "the endpoint does not echo log-probabilities of the prompt", hint="vLLM does"
        )
    return answer


def read_embeddings(answer: Any) -> Embeddings:
    """The vectors in the order of their texts.

    Raises:
        RemoteEngineError: the answer holds something else.
    """
    try:
        vectors = [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]
        counted = (answer.get("usage") or {}).get("prompt_tokens")
        return msgspec.convert({"vectors": vectors, "prompt_tokens": counted}, Embeddings)
    except (KeyError, TypeError, AttributeError, msgspec.ValidationError):
        raise RemoteEngineError("the endpoint did not answer with embeddings") from None


def choose_model(answer: Any, wanted: str | None, endpoint: str) -> str:
    """The wanted one of the models that `GET /models` lists, or the only one.

    Raises:
        EndpointSetupError: it is not there, or there are several and none was named.
        ValueError, KeyError, TypeError: the answer is not a list of models.
    """
    names = [entry["id"] for entry in answer["data"]]
    if wanted is None and len(names) == 1:
        return str(names[0])
    if wanted is not None and wanted in names:
        return wanted
    listed = ", ".join(names[:10]) or "none"
    what = f"has no model '{wanted}'" if wanted else f"has {len(names)} models"
    raise EndpointSetupError(
        f"{endpoint} {what}", hint=f"choose with backend.remote_model=; it has: {listed}"
    )

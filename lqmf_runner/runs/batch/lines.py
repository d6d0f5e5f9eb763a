"""A line of a batch file as an exchange of OpenAI's API, so a batch accepts the same fields as the server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ...errors import FieldError
from ...openai_api.bodies.body import decode
from ...openai_api.chat import ChatExchange
from ...openai_api.completions import CompletionExchange
from ...openai_api.exchange import Exchange
from ...openai_api.schemas import ChatCompletionRequest, CompletionRequest
from ...types import SamplingParams
from .columns import RESERVED, SAMPLING

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
# Fields of a chat's body that a line of JSONL may have beside its messages, those that are refused included.
_REFUSED = frozenset({"functions", "function_call", "guided_grammar", "stop_token_ids", "bad_words"})
_NOT_OF_THE_ANSWER = frozenset({"model", "messages", "stream", "stream_options", "keep_alive", "user"})
_BESIDE_MESSAGES = _REFUSED.union(ChatCompletionRequest.__struct_fields__) - SAMPLING - _NOT_OF_THE_ANSWER
# Beside a prompt these are the user's own data: in data sets they are row numbers, scores and kinds.
_DATA_BESIDE_PROMPT = frozenset(
    {"n", "logprobs", "top_logprobs", "format", "regex", "json_schema", "min_tokens"}
)
# So are these, if they have another type.
_TYPES_BESIDE_PROMPT: dict[str, type | tuple[type, ...]] = {
    "tools": list, "tool_choice": (str, dict), "parallel_tool_calls": bool, "response_format": dict, "functions": list,
    "structured_outputs": dict, "chat_template_kwargs": dict, "max_completion_tokens": (int, float),
}  # fmt: skip


class BadLineError(Exception):
    """What is wrong with a line. `record` is what can be read of it."""

    def __init__(self, reason: str, record: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.record = record or {}


def openai_exchange(record: Mapping[str, Any], sampling: SamplingParams) -> Exchange:
    """A line of OpenAI's batch format.

    Args:
        sampling: for what the body leaves out; null counts as left out.

    Raises:
        BadLineError: it is no such line, or a field of its body is refused; the message names the field.
        UnicodeEncodeError: the line is not valid UTF-8.
    """
    if not isinstance(record.get("custom_id"), str):
        raise BadLineError(
            "its 'custom_id' is not a text" if "custom_id" in record else "it has no 'custom_id'"
        )
    url = record.get("url")
    if record.get("method", "POST") != "POST" or url not in (CHAT, COMPLETIONS):
        raise BadLineError(f"only POST to {CHAT} and {COMPLETIONS} can be answered")
    given = record.get("body")
    if not isinstance(given, dict):
        raise BadLineError("its 'body' is not an object" if given is not None else "it has no 'body'")
    body = {name: value for name, value in given.items() if value is not None} | {"model": ""}
    try:
        if body.get("stream"):
            raise FieldError("a batch does not stream", param="stream")
        if url == CHAT:
            return ChatExchange(decode(ChatCompletionRequest, _json(body)), sampling)
        if sampling.max_tokens is not None:
            body.setdefault("max_tokens", sampling.max_tokens)  # not OpenAI's default of 16
        return CompletionExchange(decode(CompletionRequest, _json(body)), sampling)
    except FieldError as error:
        raise _refused(error, "body") from None


def prompt_exchange(
    record: Mapping[str, Any],
    prompt_field: str,
    *,
    system: str | None,
    sampling: SamplingParams,
    cells: bool = False,
    prefer_prompt: bool = False,
) -> ChatExchange:
    """A line with `messages` or a prompt, and the fields beside them.

    Args:
        prompt_field: name of the prompt.
        system: system prompt for a line that has a prompt and no `system`.
        sampling: for what the line leaves out.
        cells: the values are the texts of a table's cells. Beside the prompt they hold sampling settings only, and
            an empty one is left out.
        prefer_prompt: a line that has both is its prompt.

    Raises:
        BadLineError: there is no prompt, or a field is refused; the message names the field.
        UnicodeEncodeError: the line is not valid UTF-8.
    """
    if cells:
        record = {name: text for name, text in record.items() if text != ""}
    own = {name: record[name] for name in SAMPLING & set(record)}
    sampling = _merged({name: _number(name, text) for name, text in own.items()} if cells else own, sampling)
    turns = _turns(record, prompt_field, system, cells=cells, prefer_prompt=prefer_prompt)
    beside = {name: record[name] for name in request_fields(record, cells=cells) if record[name] is not None}
    try:
        data = decode(ChatCompletionRequest, _json({"model": "", "messages": turns, **beside}))
        return ChatExchange(data, sampling)
    except FieldError as error:
        raise _refused(error) from None


def request_fields(record: Mapping[str, Any], *, cells: bool) -> frozenset[str]:
    """Names of a line's fields that are those of a request, without its sampling."""
    if cells:
        return frozenset()
    if "messages" in record:
        return _BESIDE_MESSAGES & set(record)
    return frozenset(
        name
        for name in _BESIDE_MESSAGES & set(record) - _DATA_BESIDE_PROMPT
        if isinstance(record[name], _TYPES_BESIDE_PROMPT.get(name, object))
    )


def own_fields(record: Mapping[str, Any], prompt_field: str, *, cells: bool) -> dict[str, Any]:
    """The fields of a line that are not part of its request. They are copied to the answer."""
    read = request_fields(record, cells=cells) | RESERVED | {prompt_field}
    return {name: value for name, value in record.items() if name not in read}


def notes_on_fields(records: Iterable[Mapping[str, Any]], prompt_field: str, *, cells: bool) -> list[str]:
    """What the fields beside the prompts are taken for, if there are any that could be settings or data."""
    settings, data = dict[str, None](), dict[str, None]()
    for record in records:
        if "messages" in record and not cells:
            continue  # a whole request
        fields = request_fields(record, cells=cells)
        given = [name for name in record if name != prompt_field and record[name] not in (None, "")]
        settings |= dict.fromkeys(name for name in given if name in fields | SAMPLING | {"system"})
        data |= dict.fromkeys(name for name in given if name in _BESIDE_MESSAGES - fields)
    notes = []
    if settings:
        notes.append(f"settings are read from the lines: {', '.join(settings)}; rename a column that is data")
    if data:
        where = "in a table" if cells else "beside a prompt, only beside messages"
        notes.append(f"not read as settings {where}: {', '.join(data)}")
    return notes


def _turns(
    record: Mapping[str, Any], prompt_field: str, system: str | None, *, cells: bool, prefer_prompt: bool
) -> list[dict[str, Any]]:
    if "messages" in record and not cells and not (prefer_prompt and prompt_field in record):
        turns = record["messages"]
        if not isinstance(turns, list) or not turns:
            raise BadLineError("'messages' is not a list of messages")
        if not all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns):
            raise BadLineError("a message has no 'role'")
        return turns
    prompt = record.get(prompt_field)
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadLineError(f"it has no text in '{prompt_field}'" + ("" if cells else " and no 'messages'"))
    first = (prompt_field != "system" and record.get("system")) or system
    opening = [{"role": "system", "content": str(first)}] if first else []
    return [*opening, {"role": "user", "content": prompt}]


def _merged(given: dict[str, Any], base: SamplingParams) -> SamplingParams:
    """The base with the values of the line; null counts as missing."""
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(stop := given.get("stop"), str):
        given["stop"] = [stop]
    try:
        return msgspec.convert({**msgspec.to_builtins(base), **given}, SamplingParams, str_keys=True)
    except msgspec.ValidationError as error:
        raise BadLineError(f"its sampling is wrong: {error}") from None


def _number(name: str, text: str) -> Any:
    """The value of a cell: a number if it is one, otherwise its text."""
    if name == "stop":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _refused(error: FieldError, *within: str) -> BadLineError:
    """The error of the line. It begins with the full name of the field."""
    where = ".".join([*within, *([error.param] if error.param else [])])
    hint = f" ({error.hint})" if error.hint else ""
    return BadLineError(f"{where}: {error.message}{hint}" if where else f"{error.message}{hint}")

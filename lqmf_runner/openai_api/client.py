"""Requests and answers of the OpenAI API as our own types, for `RemoteEngine`."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ..errors import EndpointSetupError, InvalidRequestError
from ..types import Constraint, Message, SamplingParams, TokenLogprob

_EXTENSIONS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def message_body(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it: the arguments of a tool call are JSON text there."""
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call_body(call) for call in message.tool_calls]
    return body


def _tool_call_body(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return call | {"function": function}


def sampling_body(params: SamplingParams) -> dict[str, Any]:
    """OpenAI's fields always, the extensions of vLLM and llama-server only where they are set."""
    body: dict[str, Any] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
    }
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.seed is not None:
        body["seed"] = params.seed
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
    if params.constraint is not None:
        body |= _constraint_body(params.constraint)
    for name, default in _EXTENSIONS.items():
        if (value := getattr(params, name)) != default:
            body[name] = value
    return body


def _constraint_body(constraint: Constraint) -> dict[str, Any]:
    """JSON as OpenAI asks for it, the other kinds as vLLM does. An endpoint may ignore fields that it does not know."""
    if constraint.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    value = constraint.value
    try:
        if constraint.kind == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": json.loads(value)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if constraint.kind == "choice":
            return {"structured_outputs": {"choice": json.loads(value)}}
    except ValueError as error:
        raise InvalidRequestError(f"the constraint is not JSON: {error}") from None
    names = {"regex": "regex", "lark": "grammar"}
    if constraint.kind not in names:
        raise InvalidRequestError(f"unknown kind of constraint '{constraint.kind}'")
    return {"structured_outputs": {names[constraint.kind]: value}}


def collect_tool_calls(calls: dict[int, dict[str, str]], choice: dict[str, Any]) -> None:
    """Add what this event tells of tool calls; their names and arguments arrive in pieces."""
    for piece in (choice.get("delta") or {}).get("tool_calls") or ():
        call = calls.setdefault(piece.get("index", 0), {"name": "", "arguments": ""})
        for part in call:
            call[part] += (piece.get("function") or {}).get(part) or ""


def tool_calls_text(calls: dict[int, dict[str, str]]) -> str:
    """Tool calls that the endpoint has already cut out of the answer, as the text that most models write them in."""
    return "".join(
        f'<tool_call>\n{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"] or "{}"}}}\n</tool_call>'
        for _, call in sorted(calls.items())
    )


def read_logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """What a choice tells of its tokens, in the shape of chat completions or of completions."""
    told = choice.get("logprobs") or {}
    chat = tuple(
        TokenLogprob(
            token_id=-1,
            text=entry.get("token", ""),
            logprob=entry["logprob"],
            top=tuple((-1, top.get("token", ""), top["logprob"]) for top in entry.get("top_logprobs") or ()),
        )
        for entry in told.get("content") or ()
    )
    plain = zip(told.get("tokens") or (), told.get("token_logprobs") or (), strict=False)
    tops = told.get("top_logprobs") or ()
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


def most_likely(row: dict[str, float], n: int) -> tuple[tuple[int, str, float], ...]:
    """The n most likely of a row of log-probabilities by token text, as (-1, text, log-probability)."""
    return tuple((-1, text, value) for text, value in sorted(row.items(), key=lambda item: -item[1])[:n])


def read_json(data: str) -> Any:
    """Read JSON; halves of a character that was cut in two are replaced, as no file takes them."""
    found = json.loads(data)
    if not _SURROGATE.search(data):
        return found
    text = json.dumps(found, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def retry_after_s(said: str) -> float:
    """The seconds of a `Retry-After`, between one and an hour; a date is not understood."""
    return float(min(max(int(said), 1), 3600)) if said.isdecimal() and len(said) < 10 else 1.0


def read_key(variable: str) -> str:
    """The key in an environment variable, without what its file may have ended with; empty if there is none."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointSetupError(
            f"the key in {variable} has characters that cannot be sent",
            hint=f"set {variable} to the key alone",
        )
    return key

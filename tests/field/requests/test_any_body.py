"""Whatever JSON stands in a body, it becomes requests that the engine can be sent, or an error about a field."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
from hypothesis import given, settings, strategies

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.chat import ChatExchange
from lqmf_runner.openai_api.completions import CompletionExchange
from lqmf_runner.openai_api.schemas import ChatCompletionRequest, CompletionRequest

TEXTS = strategies.one_of(
    strategies.text(max_size=8), strategies.sampled_from(["function", "text", "thinking", "{", "7"])
)
VALUES: Any = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(-(10**30), 10**30),
        strategies.floats(),
        TEXTS,
    ),
    lambda inner: strategies.one_of(
        strategies.lists(inner, max_size=3),
        strategies.dictionaries(
            strategies.sampled_from(
                ["type", "text", "function", "name", "arguments", "id", "thinking", "input"]
            ),
            inner,
        ),
    ),
    max_leaves=12,
)
_OF_TURNS = (
    "content", "tool_calls", "function_call", "reasoning_content", "refusal", "prefix", "tool_call_id", "name",
)  # fmt: skip
_ROLES = ("assistant", "assistant", "user", "tool", "function", "system")
TURNS = strategies.fixed_dictionaries(
    {"role": strategies.sampled_from(_ROLES)}, optional=dict.fromkeys(_OF_TURNS, VALUES)
)
FIELDS = sorted({*ChatCompletionRequest.__struct_fields__, *CompletionRequest.__struct_fields__} - {"model"})
PROFILE = settings(max_examples=300, derandomize=True, deadline=None, database=None)


def _requests(kind: Any, exchange: Any, body: dict[str, Any]) -> None:
    with contextlib.suppress(FieldError):
        for request in exchange(decode(kind, json.dumps(body).encode())).requests:
            with contextlib.suppress(OverflowError):  # told as the client's mistake where it is sent
                msgspec.msgpack.encode(request)


@PROFILE
@given(strategies.lists(TURNS, min_size=1, max_size=4))
def test_any_conversation(messages: list[Any]) -> None:
    _requests(ChatCompletionRequest, ChatExchange, {"model": "m", "messages": messages})


@PROFILE
@given(strategies.dictionaries(strategies.one_of(strategies.sampled_from(FIELDS), TEXTS), VALUES, max_size=4))
def test_any_fields(fields: dict[str, Any]) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    _requests(ChatCompletionRequest, ChatExchange, chat | fields)
    _requests(CompletionRequest, CompletionExchange, {"model": "m", "prompt": "hi"} | fields)

"""Reading tool calls out of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.openai_api.tool_calls import ToolCallReader

CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'


def read(text: str, size: int, *, parallel: bool = True) -> tuple[str, list[tuple[str, Any]]]:
    """The plain text and the calls of an answer that comes in pieces of `size` characters."""
    reader = ToolCallReader({"add"}, parallel=parallel)
    parts = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)] + [reader.end()]
    calls = [
        (call.function.name, json.loads(call.function.arguments)) for _, found in parts for call in found
    ]
    return "".join(plain for plain, _ in parts), calls


ADD = ("add", {"x": 1})


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "plain", "calls"),
    [
        (f"Well. {CALL}", "Well. ", [ADD]),
        (f"{CALL}\n{CALL} done", " done", [ADD, ADD]),
        ('{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
        ('<|python_tag|>{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
        ('{"name": "add", "arguments": {"x": 1}}; {"name": "add", "arguments": {"x": 1}}', "", [ADD, ADD]),
        ('[{"name": "add", "arguments": {"x": 1}}]', "", [ADD]),
        ('<tool_call>{"name": "add", "arguments": {"x": 1}}', "", [ADD]),
        ('[TOOL_CALLS] [{"name": "add", "arguments": {"x": 1}}]', "", [ADD]),
        ('[TOOL_CALLS]add[ARGS]{"x": 1}[TOOL_CALLS]add[CALL_ID]c1[ARGS]{"x": 1}', "", [ADD, ADD]),
        ('add{"x": 1}add{"x": 1}', "", [ADD, ADD]),
        ("add two", "add two", []),
        ('{"name": "Paris", "arguments": {}}', '{"name": "Paris", "arguments": {}}', []),
        ('<tool_call>{"name": "new", "arguments": {}}</tool_call>', "", [("new", {})]),
        ("a < b <tool", "a < b <tool", []),
        ("<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", []),
        ('{"answer": 42}', '{"answer": 42}', []),
        ('{"name": "add", "arguments": {"x"', '{"name": "add", "arguments": {"x"', []),
        ("", "", []),
    ],
)
def test_reading(text: str, size: int, plain: str, calls: list[Any]):
    assert read(text, size) == (plain, calls)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "text", [f"{CALL}\n{CALL}", '[{"name": "add", "arguments": {"x": 1}}, {"name": "add"}]']
)
def test_one_call_where_they_may_not_be_parallel(text: str, size: int):
    assert read(text, size, parallel=False) == ("", [ADD])

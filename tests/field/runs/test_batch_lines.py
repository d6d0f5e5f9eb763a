"""A line of OpenAI's batch format may have what a request may have, and every line has a record of its own.

Reports of this kind: vllm #4794, openai-openapi #578, vllm #7132 (blank lines, other routes), sglang #1415,
llm-d-batch-gateway #147 (two lines of one id), LLMFlux #104, aqueduct #118 (another model's name), instructor #1119,
#1120, litellm #37527 (lines of another format), vllm #394, LlamaFactory #5597 (order, and the line's own columns).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.errors import UserInputError
from tests.support.runs.batch import Batch, load_fake
from tests.support.server.openai_bodies import TOOL

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
HISTORY = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}]},
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "1"},
]  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
    "object": {"response_format": {"type": "json_object"}},
    "text": {"response_format": {"type": "text"}},
    "no tools": {"tools": []},
    "choice none": {"tool_choice": "none"},
    "parallel": {"parallel_tool_calls": True, "service_tier": "auto", "store": True},
    "history": {"messages": HISTORY},
    "null content": {"messages": [HISTORY[0], {"role": "assistant", "content": None}, HISTORY[0]]},
    "nulls": {"temperature": None, "stop": [], "stream": False},
    "tools": {"tools": [TOOL]},
    "logprobs": {"logprobs": True},
    "n": {"n": 2},
    "same 1": {"seed": 1},
    "same 2": {"seed": 1},
}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    found = Batch(tmp_path)
    found.other = load_fake
    return found


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    whole = {"model": "a", "messages": HISTORY[:1], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": whole}


def test_what_a_request_may_have_is_answered(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.write([line(name, **body) for name, body in BODIES.items()])
    assert batch.run() == 0, capsys.readouterr().err
    answers = batch.answers()
    assert [answer["custom_id"] for answer in answers] == list(BODIES)
    bodies = {answer["custom_id"]: answer["response"]["body"] for answer in answers}
    assert (
        len({answer["id"] for answer in answers})
        == len({body["id"] for body in bodies.values()})
        == len(BODIES)
    )
    assert len(bodies["n"]["choices"]) == 2
    assert bodies["logprobs"]["choices"][0]["logprobs"]["content"]
    assert bodies["tools"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"n": 0}, "n"), ({"response_format": {"type": "xml"}}, "response_format"), ({"stream": True}, "stream"),
     ({"audio": {"voice": "x"}}, "audio"), ({"tools": [{"type": "function"}]}, "tools")],
)  # fmt: skip
def test_what_is_refused_is_named_and_the_rest_is_answered(
    batch: Batch, body: dict[str, Any], field: str
) -> None:
    batch.write([line("bad", **body), line("good")])
    assert batch.run() == 1
    bad, good = sorted(batch.answers(), key=lambda answer: str(answer["custom_id"] != "bad"))
    assert good["response"]["status_code"] == 200
    assert f"body.{field}" in bad["error"]["message"]


def test_lines_are_told_apart(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    embedding = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}}
    records = [
        line("one"),
        line("one"),
        embedding,
        line("two", model="gpt-4o"),
        line("three", model="gpt-4o"),
    ]
    batch.input.write_text("\n\n".join(map(json.dumps, records)) + "\n  \n")
    assert batch.run() == 1
    found = [(answer["custom_id"], answer["error"] is None) for answer in batch.answers()]
    assert sorted(found) == [("e", False), ("one", False), ("one", True), ("three", True), ("two", True)]
    shown = capsys.readouterr().err
    assert "its id 'one' is that of line 1" in shown
    assert shown.count("the lines ask for the model 'gpt-4o'; a answers them") == 1


def test_lines_of_another_format_are_named(batch: Batch) -> None:
    batch.write([{"custom_id": "a", "params": {"messages": HISTORY[:1]}}])
    with pytest.raises(UserInputError, match="its keys are custom_id, params"):
        batch.run()

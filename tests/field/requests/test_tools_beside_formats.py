"""A format beside tools that may be called: the answer has the format, or is a call.

Codex (`--output-schema`), openai-agents (`output_type`), dspy and pydantic-ai send both with every request of an agent.
Constrained to the format alone, a model can never call, and nobody is told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.engine.sandbox.constraints import grammar_of
from lqmf_runner.errors import FieldError
from lqmf_runner.ollama_api.bodies import chat_request
from lqmf_runner.ollama_api.schemas import OllamaChatRequest
from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.client.bodies import generation_body
from lqmf_runner.openai_api.responses.exchange import ResponseExchange
from lqmf_runner.openai_api.responses.schemas import ResponseRequest
from lqmf_runner.types import Constraint, GenerationRequest, ModelSpec

from ...support.models.tiny import make_speaker
from ...support.server.openai_bodies import chat

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
FUNCTION = {"name": "weather", "parameters": CITY}
TOOL = {"type": "function", "function": FUNCTION}
# A token each, as a text that the constraint forces is made of the tokenizer's own tokens.
MARKED = ["<tool_call>", '{"name": "weather", "arguments": {"city": "Paris"}}', "</tool_call>"]
BARE = MARKED[1:2]
LLAMA = ['{"name": "weather", "parameters": {"city": "Paris"}}']
ANSWER = ['{"city": "Paris"}']


def asked_of(route: str, **body: Any) -> GenerationRequest:
    """What a request with the tool and the format asks the engine for."""
    match route:
        case "chat":
            return chat(**{"tools": [TOOL], "response_format": FORMAT, "temperature": 0, **body}).requests[0]
        case "responses":
            text = {"format": {"type": "json_schema", "name": "city", "schema": CITY}}
            whole = {
                "model": "m",
                "input": "hi",
                "tools": [{"type": "function", **FUNCTION}],
                "temperature": 0,
            }
            data = decode(ResponseRequest, json.dumps(whole | {"text": text}).encode())
            return ResponseExchange(data, (), lambda _: None, lambda _: None).request
    messages = [{"role": "user", "content": "hi"}]
    whole = {
        "model": "m",
        "messages": messages,
        "tools": [TOOL],
        "format": CITY,
        "options": {"temperature": 0},
    }
    return chat_request(decode(OllamaChatRequest, json.dumps(whole).encode()))


@pytest.mark.parametrize("route", ["chat", "responses", "ollama"])
async def test_a_model_that_wants_to_call_does_so(tmp_path: Path, route: str) -> None:
    for number, pieces in enumerate((MARKED, BARE, LLAMA, ANSWER)):
        path = make_speaker(tmp_path / f"{number}.gguf", pieces)
        spec = ModelSpec(name="m", format="gguf", path=str(path), options={"n_threads": 1, "n_ctx": 512})
        async with await LocalEngine.start(spec) as engine:
            said = await engine.complete(asked_of(route))
        assert (said.text, said.finish_reason) == ("".join(pieces), "stop")


def takes(constraint: Constraint | None, text: str) -> bool:
    import llguidance

    assert constraint is not None
    letters = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(letters, grammar_of(constraint), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = letters.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


REFERRING = {"$defs": {"P": {"type": "integer"}}, "type": "object", "properties": {"a//b#": {"$ref": "#/$defs/P"}},
             "additionalProperties": False}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ({}, '{"city": "Paris"}', '{"city": 1}'),
        ({"response_format": {"type": "json_object"}}, '{"x": {}}', "[1]"),
        ({"response_format": None, "guided_json": REFERRING}, '{"a//b#": 1}', '{"a//b#": "1"}'),
        ({"response_format": None, "guided_regex": r"^a/b\n\d+$"}, "a/b\n12", "a/b\nx"),
        ({"response_format": None, "guided_choice": ['a/b "c" [d]+|\n\\.', "é"]}, 'a/b "c" [d]+|\n\\.', "e"),
    ],
    ids=["schema", "object", "references", "regex", "choice"],
)
def test_an_answer_has_the_format_or_is_calls_of_tools_that_are_offered(
    asked: dict[str, Any], good: str, bad: str
) -> None:
    constraint = asked_of("chat", **asked).sampling.constraint
    call = "".join(MARKED)
    for text in (good, call, f"{call}\n{call}", call.replace(">{", ">\n{"), "".join(BARE), "".join(LLAMA)):
        assert takes(constraint, text), text
    for text in (
        bad,
        "Hello",
        good + call,
        call.replace("weather", "time"),
        call.removesuffix("</tool_call>"),
    ):
        assert not takes(constraint, text), text


def test_without_tools_that_may_be_called_the_answer_has_the_format() -> None:
    for body in ({"tools": []}, {"tool_choice": "none"}):
        assert asked_of("chat", **body).sampling.constraint == Constraint("json_schema", json.dumps(CITY))


def test_a_grammar_beside_tools_is_refused() -> None:
    grammar = {"response_format": None, "structured_outputs": {"grammar": 'start: "a"'}}
    with pytest.raises(FieldError, match="exclude") as refusal:
        asked_of("chat", **grammar)
    assert refusal.value.param == "tools"
    assert asked_of("chat", **grammar, tool_choice="none").sampling.constraint is not None


def test_an_endpoint_gets_both_as_they_were_sent() -> None:
    _, body = generation_body(asked_of("chat"), "m")
    assert body["tools"] == [TOOL]
    assert body["response_format"]["json_schema"]["schema"] == CITY

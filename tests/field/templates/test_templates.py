"""Chat templates in the style of public families render what transformers renders, byte for byte.

Reports of this kind: llama-cpp-python #2225, nobodywho #563 (`generation` tags), #61 (`bos_token` unknown);
huggingface.js #846, mlxcel #1597 (`tools` undefined); tabbyAPI #459, swift-jinja #71, mistral.rs #2431 (`tojson`);
llama.cpp #6484, llama-cpp-python #1336 (several templates), #12231, #13178 (`[::-1]`, `split(...)[-1]`);
text-generation-inference #2987 (`strftime_now`); node-llama-cpp #366 (`rejectattr`); mlx-lm #1065, Qwen3 #1894
(arguments as text and as object); mlx-vlm #1837, transformers #45422 (content null); transformers #34214 (prefill).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jinja2 import TemplateError

from lqmf_runner.engine.sandbox.template_process import TemplateProcess
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import Message
from tests.support.models.templates import Reference, make_folder, read_folder, read_gguf

SOURCES = {path.stem: path.read_text() for path in (Path(__file__).parent / "jinja").glob("*.jinja")}
FAMILIES: dict[str, dict[str, str]] = {
    name: {"default": source}
    for name, source in SOURCES.items()
    if name not in ("command_plain", "command_tools", "hermes_tools")
}
FAMILIES["command"] = {
    "tool_use": SOURCES["command_tools"],
    "default": SOURCES["command_plain"],
    "rag": "{{ raise_exception('nobody asks for this one') }}",
}
FAMILIES["hermes"] = {"default": SOURCES["zephyr_plain"], "tool_use": SOURCES["hermes_tools"]}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Das Wetter für <eine> Stadt & mehr",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "naïve 猫 'name'"},
                    "days": {"type": "integer", "default": 3},
                    "units": {"type": "string", "enum": ["metric", "imperial"]},
                    "at": {"type": "array", "items": {"type": "number"}},
                    "extra": {"type": ["string", "null"]},
                    "box": {
                        "type": "object",
                        "properties": {"z": {"type": "number"}, "a": {}},
                        "required": ["z"],
                    },
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
    },
]
ARGUMENTS = {"city": 'Köln "am" <Rhein>', "days": 2, "at": [1.5, True, None]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | more


def call(number: int, arguments: Any = ARGUMENTS, name: str = "weather") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call0000{number}", "type": "function", "function": function}


def result(number: int, text: str = '{"rain": true}') -> dict[str, Any]:
    return {"role": "tool", "content": text, "name": "weather", "tool_call_id": f"call0000{number}"}


CALLED = [user("Rain?"), assistant("", tool_calls=[call(1)]), result(1)]
TALKS: dict[str, list[dict[str, Any]]] = {
    "one question": [user("  Hi {{ 7 * 7 }} <|im_end|>\n")],
    "an answer to go on with": [user("Count."), assistant("1, 2,")],
    "an answer that ends in a space": [user("Count."), assistant("\n1, 2, ")],
    "several turns": [user("Hi"), assistant("Hello\n"), user("And?"), assistant("So."), user("Bye")],
    "thoughts in the text": [user("Hi"), assistant("<think>\nhm\n</think>\n\nYes."), user("Why?")],
    "thoughts apart": [user("Hi"), assistant("Yes.", reasoning_content="\nhm\n"), user("Why?")],
    "thoughts at the end": [user("Hi"), assistant("Yes.", reasoning_content="hm")],
    "a call and its result": CALLED,
    "a call with thoughts": [
        user("Rain?"),
        assistant("", reasoning_content="I ask.", tool_calls=[call(1)]),
        result(1),
    ],
    "a call with a text": [user("Rain?"), assistant("I ask.", tool_calls=[call(1)]), result(1)],
    "a call, its result and an answer": [*CALLED, assistant("It rains."), user("Thanks")],
    "two calls": [
        user("Rain?"),
        assistant("", tool_calls=[call(1), call(2, {}, "now")]),
        result(1),
        result(2, ""),
        assistant("It rains."),
    ],
    "a call with text for arguments": [
        user("?"),
        assistant("", tool_calls=[call(1, '{"a": "é"}')]),
        result(1),
    ],
    "a call without content": [user("?"), assistant(None, tool_calls=[call(1)]), result(1)],
    "an empty answer": [user("Hi"), assistant(""), user("Hello?")],
    "no answer": [user("Hi"), assistant(None), user("Hello?")],
    "two questions": [user("Hi"), user("Hello?")],
    "an answer first": [assistant("Welcome."), user("Hi")],
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "chatml_thinking": [{}, {"enable_thinking": False}],
    "smol_generation": [{}, {"enable_thinking": False}],
    "llama_date": [{}, {"tools_in_user_message": False, "date_string": "1 Jan 2025"}, {"builtin_tools": ["weather"]}],
    "granite_documents": [
        {},
        {"documents": [{"doc_id": 1, "text": "Köln.", "title": "A"}, {"text": "b"}]},
        {"thinking": True, "controls": {"length": "short"}},
    ],
    "channels": [{}, {"reasoning_effort": "high"}],
}  # fmt: skip
ENDS: list[dict[str, bool]] = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False},
    {"add_generation_prompt": False, "continue_final_message": True},
]


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def ours(
    process: TemplateProcess, messages: list[dict[str, Any]], *, tools: Any, options: Any, end: Any
) -> str:
    turns = msgspec.convert(messages, tuple[Message, ...])
    return process.render(turns, tools=tools or (), options=options, **end)


@pytest.mark.parametrize("form", ["folder", "gguf"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_renders_as_in_transformers(
    family: str, form: str, process: TemplateProcess, tmp_path: Path
) -> None:
    templates = FAMILIES[family]
    folder = make_folder(tmp_path / "folder", templates)
    reference = Reference(folder)
    found = read_folder(folder) if form == "folder" else read_gguf(tmp_path / "model.gguf", templates)
    process.open(*found)
    rendered = 0
    for (name, talk), system, tools, options, end in itertools.product(
        TALKS.items(), (None, " Be brief.\n"), (None, TOOLS), OPTIONS.get(family, [{}]), ENDS
    ):
        messages = talk if system is None else [{"role": "system", "content": system}, *talk]
        where = f"{name}, system {system!r}, tools {bool(tools)}, {options}, {end}"
        try:
            theirs = reference.render(messages, tools=tools, **options, **end)
        except Exception as error:
            try:
                theirs = reference.render(joined(messages), tools=tools, **options, **end)
            except Exception:
                check_refusal(process, error, messages, tools, options, end, where)
                continue
        if tools and not process.knows_tools:
            with pytest.raises(InvalidRequestError, match="knows no tools"):
                ours(process, messages, tools=tools, options=options, end=end)
            continue
        assert ours(process, messages, tools=tools, options=options, end=end) == theirs, where
        rendered += 1
    assert rendered > 20


def joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """User turns in a row as one: what a template gets that refuses several."""
    turns = list[dict[str, Any]]()
    for message in messages:
        if turns and turns[-1]["role"] == message["role"] == "user":
            turns[-1] = user(turns[-1]["content"] + "\n\n" + message["content"])
        else:
            turns.append(message)
    return turns


def check_refusal(
    process: TemplateProcess, error: Exception, messages: Any, tools: Any, options: Any, end: Any, where: str
) -> None:
    """A refusal in the template's own words, or the text of an equal conversation that the template does take."""
    own_words = str(error) if type(error) is TemplateError else ""
    try:
        text = ours(process, messages, tools=tools, options=options, end=end)
    except InvalidRequestError as refusal:
        said = str(refusal)
    else:
        assert text, where
        assert any(m["content"] is None or m.get("tool_calls") for m in messages), f"{where}: {error!r}"
        assert not own_words, where
        return
    assert own_words in said or "knows no tools" in said, where

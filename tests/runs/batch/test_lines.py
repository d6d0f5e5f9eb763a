"""A line of a batch takes what the server takes, and is answered as the server answers."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.runs.batch.lines import (
    BadLineError,
    notes_on_fields,
    openai_exchange,
    own_fields,
    prompt_exchange,
)
from lqmf_runner.types import Constraint, Message, ModelSpec, SamplingParams
from tests.support.models.tiny import make_gguf
from tests.support.runs.batch import Batch, calling, load_fake
from tests.support.server.fakes import fake_server
from tests.support.server.openai_bodies import TOOL

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BASE = SamplingParams(max_tokens=50, temperature=0.0, seed=0, top_k=7, stop=("x",))
USER = {"role": "user", "content": "hi"}
HISTORY = [
    USER,
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "1"},
]  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {"x": {"enum": [1, 2]}},
    "required": ["x"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}


def line(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chat(custom_id: str = "a", **body: Any) -> dict[str, Any]:
    return line(custom_id, CHAT, {"model": "m", "messages": [USER], **body})


def completion(custom_id: str = "a", **body: Any) -> dict[str, Any]:
    return line(custom_id, COMPLETIONS, {"model": "m", "prompt": "once", **body})


def sampling(record: dict[str, Any]) -> SamplingParams:
    return openai_exchange(record, BASE).requests[0].sampling


def test_what_a_body_leaves_out_is_the_modes() -> None:
    assert sampling(chat()) == BASE
    assert sampling(chat(temperature=None, max_tokens=None, seed=None, stop=None)) == BASE
    assert sampling(completion()) == BASE
    given = sampling(
        chat(temperature=1.5, max_completion_tokens=3, stop=["y", "z"], logprobs=True, top_logprobs=2)
    )
    assert (given.temperature, given.max_tokens, given.stop, given.logprobs) == (1.5, 3, ("y", "z"), 2)
    assert (given.top_k, given.seed) == (7, 0)


def test_bodies_ask_for_tools_schemas_and_choices() -> None:
    exchange = openai_exchange(chat(tools=[TOOL], n=3, seed=4, chat_template_kwargs={"think": False}), BASE)
    assert [request.sampling.seed for request in exchange.requests] == [4, 5, 6]
    assert exchange.requests[0].tools[0]["function"]["name"] == "add"
    assert exchange.requests[0].template_options == {"think": False}
    required = sampling(chat(tools=[TOOL], tool_choice="required")).constraint
    assert required is not None
    assert json.loads(required.value)["anyOf"][0]["properties"]["name"] == {"const": "add"}
    assert openai_exchange(chat(tools=[TOOL], tool_choice="none"), BASE).requests[0].tools == ()
    assert sampling(chat(response_format=FORMAT)).constraint == Constraint("json_schema", json.dumps(SCHEMA))
    assert sampling(completion(structured_outputs={"choice": ["a"]})).constraint == Constraint(
        "choice", '["a"]'
    )


def test_histories_keep_their_calls() -> None:
    for record in (chat(messages=[*HISTORY, {"role": "assistant", "content": None}]),):
        messages = openai_exchange(record, BASE).requests[0].messages
        assert messages is not None
        assert messages[1].tool_calls[0]["function"] == {"name": "add", "arguments": {"x": 1}}
        assert (messages[1].content, messages[2].tool_call_id, messages[3].content) == (None, "c1", None)


def test_completions_take_lists_and_token_ids() -> None:
    exchange = openai_exchange(completion(prompt=["a", "b"], n=2), BASE)
    assert [request.prompt for request in exchange.requests] == ["a", "a", "b", "b"]
    assert openai_exchange(completion(prompt=[5, 6]), BASE).requests[0].prompt_tokens == (5, 6)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"temperature": 3}, "temperature"), ({"n": 200}, "n"), ({"stream": True}, "stream"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"), ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"), ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"), ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"reasoning": {"effort": "low"}}, "reasoning"), ({"functions": [{}]}, "functions"),
        ({"seed": 10**30}, "seed"), ({"keep_alive": "soon"}, "keep_alive"),
    ],
)  # fmt: skip
def test_a_refused_field_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadLineError) as caught:
        openai_exchange(chat(**body), BASE)
    assert str(caught.value).startswith(f"body.{field}")


def test_what_changes_nothing_is_taken() -> None:
    body = {
        "user": "x",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "tools": [],
        "stream": False,
    }
    assert sampling(chat(**body, parallel_tool_calls=True, response_format={"type": "text"})) == BASE


def from_prompt(record: dict[str, Any], *, cells: bool = False) -> Any:
    return prompt_exchange(record, "prompt", system=None, sampling=BASE, cells=cells)


def test_fields_beside_a_prompt_are_taken_too() -> None:
    exchange = from_prompt({"prompt": "a", "tools": [TOOL], "response_format": None, "temperature": 50})
    (request,) = exchange.requests
    assert request.tools[0]["function"]["name"] == "add"
    assert request.sampling.temperature == 50, "the engine's range, not OpenAI's"
    assert from_prompt({"messages": HISTORY}).requests[0].messages[2].tool_call_id == "c1"
    with pytest.raises(BadLineError, match=r"^messages\[1\].role: "):
        from_prompt({"messages": [USER, {"role": "critic", "content": "no"}]})
    with pytest.raises(BadLineError, match=r"tools\[0\]"):
        from_prompt({"prompt": "a", "tools": [5]})


def test_names_of_settings_are_data_beside_a_prompt_where_data_sets_have_them() -> None:
    """`n` is a row number there, `logprobs` a score, and tools are text; beside messages they are a request."""
    data = {"n": 17, "logprobs": -1.5, "tools": "hammer", "response_format": "none", "label": 3}
    record = {"prompt": "a", "max_tokens": 9, **data}
    (request,) = from_prompt(record).requests
    assert (request.sampling.max_tokens, request.sampling.logprobs, request.tools) == (9, None, ())
    assert own_fields(record, "prompt", cells=False) == data
    settings, not_read = notes_on_fields([record, {"prompt": "b", "seed": 1}], "prompt", cells=False)
    assert "from the lines: max_tokens, seed;" in settings
    assert "not read as settings" in not_read
    assert not_read.endswith(": n, logprobs, tools, response_format")
    assert notes_on_fields([{"prompt": "a", "label": 3}], "prompt", cells=False) == []
    whole = {"messages": [USER], "n": 2, "logprobs": True, "label": 3}
    assert [request.sampling.logprobs for request in from_prompt(whole).requests] == [0, 0]
    assert own_fields(whole, "prompt", cells=False) == {"label": 3}
    assert notes_on_fields([whole], "prompt", cells=False) == []


def test_a_prompt_that_is_asked_for_comes_before_messages() -> None:
    line = {"question": "why?", "messages": [USER]}
    both = [
        prompt_exchange(line, "question", system=None, sampling=BASE, prefer_prompt=prefer)
        .requests[0]
        .messages
        for prefer in (False, True)
    ]
    assert both == [(Message("user", "hi"),), (Message("user", "why?"),)]


def test_cells_of_a_table_are_prompts_and_numbers() -> None:
    exchange = from_prompt(
        {"prompt": "5", "max_tokens": "9", "n": "2", "tools": "hammer", "seed": ""}, cells=True
    )
    (request,) = exchange.requests
    assert request.messages == (Message("user", "5"),)
    assert (request.sampling.max_tokens, request.sampling.seed) == (9, 0)


def test_all_that_the_answer_depends_on_is_in_the_key() -> None:
    records = [
        chat(), chat(n=2), chat(tools=[TOOL]), chat(tools=[TOOL], parallel_tool_calls=False), chat(logprobs=True),
        completion(), completion(echo=True), completion(echo=True, prompt="other", max_tokens=0),
        completion(echo=True, max_tokens=0),
    ]  # fmt: skip
    keys = [openai_exchange(record, BASE).key() for record in records]
    assert all(keys.count(key) == 1 for key in keys)
    assert openai_exchange(chat(parallel_tool_calls=False), BASE).key() == keys[0]


BODIES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": [USER]}),
    (CHAT, {"messages": HISTORY, "tools": [TOOL], "n": 2, "seed": 1}),
    (CHAT, {"messages": [USER], "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}),
    (CHAT, {"messages": [USER], "logprobs": True, "top_logprobs": 2}),
    (COMPLETIONS, {"prompt": ["a", "b"], "n": 2}),
    (COMPLETIONS, {"prompt": "ab", "echo": True, "logprobs": 1, "max_tokens": 4}),
    (COMPLETIONS, {"prompt": [97, 98], "echo": True, "max_tokens": 0}),
]


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what is new each time."""
    for choice in answer["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert len(call.pop("id")) == 9
    return {name: value for name, value in answer.items() if name not in ("id", "created", "model")}


@pytest.mark.parametrize("index", range(len(BODIES)))
def test_a_line_is_answered_as_the_server_answers(batch: Batch, index: int) -> None:
    import asyncio

    async def ask(url: str, body: dict[str, Any]) -> Any:
        async with fake_server(calling) as (client, _):
            response = await client.post(url, json={"model": "m", **body})
            assert response.status_code == 200, response.text
            return response.json()

    url, body = BODIES[index]
    batch.other = load_fake
    batch.write([line("one", url, body)])
    assert batch.run() == 0
    (answered,) = batch.answers()
    assert answered["error"] is None
    assert answered["response"]["body"]["model"] == "a"
    assert without_ids(answered["response"]["body"]) == without_ids(asyncio.run(ask(url, body)))


def test_a_real_model_answers_all_kinds_of_lines(batch: Batch) -> None:
    model = make_gguf(batch.folder / "tiny.gguf")
    batch.spec = functools.partial(
        ModelSpec, format="gguf", path=str(model), options={"max_slots": 2, "n_threads": 1, "n_ctx": 512}
    )
    batch.other = load_engine
    batch.write([
        chat("schema", response_format=FORMAT, max_tokens=60, temperature=1.0),
        chat("call", tools=[TOOL], tool_choice="required", max_tokens=120, temperature=1.0, seed=3),
        chat("history", messages=HISTORY, tools=[TOOL], max_tokens=3),
        chat("logprobs", logprobs=True, top_logprobs=2, max_tokens=3),
        chat("n", n=5, max_tokens=3, temperature=1.0),
        completion("echo", echo=True, logprobs=1, max_tokens=2),
        completion("tokens", prompt=[[5, 6], [7, 8]], max_tokens=2),
        chat("long", messages=[{"role": "user", "content": "a" * 2000}]),
    ])  # fmt: skip
    assert batch.run() == 1
    found = {answer["custom_id"]: answer for answer in batch.answers()}
    assert len(found) == 8
    assert found["long"]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    bodies = {name: answer["response"]["body"] for name, answer in found.items() if name != "long"}
    (schema,) = bodies["schema"]["choices"]
    assert schema["finish_reason"] == "length" or json.loads(schema["message"]["content"])["x"] in (1, 2)
    assert bodies["history"]["usage"]["prompt_tokens"] > bodies["logprobs"]["usage"]["prompt_tokens"]
    assert len(bodies["logprobs"]["choices"][0]["logprobs"]["content"]) == 3
    assert [choice["index"] for choice in bodies["n"]["choices"]] == [0, 1, 2, 3, 4]
    assert bodies["n"]["usage"]["completion_tokens"] <= 15
    echo = bodies["echo"]["choices"][0]
    assert echo["text"].startswith("once")
    assert echo["logprobs"]["token_logprobs"][0] is None
    assert [choice["index"] for choice in bodies["tokens"]["choices"]] == [0, 1]
    assert set(bodies["call"]["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}


@pytest.mark.parametrize("beside", [{"prompt": "a"}, {"messages": [USER]}])
def test_a_refused_field_of_a_line_of_jsonl_is_named(beside: dict[str, Any]) -> None:
    with pytest.raises(BadLineError, match=r"^functions: "):
        from_prompt({**beside, "functions": [{"name": "add"}], "label": 3})

"""Bodies of Ollama's routes as generation requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.ollama_api.bodies import (
    chat_request,
    check_generate,
    generate_request,
    options_of,
    plain_name,
)
from lqmf_runner.ollama_api.schemas import GenerateRequest, OllamaChatRequest
from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.types import Constraint, GenerationRequest, Message, SamplingParams

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> GenerationRequest:
    body = {"model": "m", "messages": [USER], **fields}
    return chat_request(decode(OllamaChatRequest, msgspec.json.encode(body)))


def test_what_is_left_out_is_ollamas_default():
    sampling = SamplingParams(max_tokens=None, temperature=0.8, top_k=40, top_p=0.9)
    assert chat() == GenerationRequest(messages=(Message("user", "hi"),), sampling=sampling)


def test_options_become_the_settings_of_the_answer():
    options = {
        "temperature": 0, "top_k": -1, "top_p": 0.5, "min_p": 0.1, "num_predict": 7.0, "seed": 3, "stop": ["x", ""],
        "repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": -1,
    }  # fmt: skip
    assert chat(options=options, logprobs=True, top_logprobs=2, format="json").sampling == SamplingParams(
        max_tokens=7, temperature=0.0, top_k=0, top_p=0.5, min_p=0.1, seed=3, stop=("x",), repetition_penalty=1.2,
        presence_penalty=0.5, frequency_penalty=-1.0, logprobs=2, constraint=Constraint("json_object"),
    )  # fmt: skip


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_no_limit_of_tokens(limit: int):
    assert chat(options={"num_predict": limit}).sampling.max_tokens is None


@pytest.mark.parametrize(
    "options",
    [
        # What Open WebUI, Continue, langchain-ollama and Home Assistant send of a load.
        {
            "num_ctx": 32768,
            "num_batch": 512,
            "num_gpu": 99,
            "num_thread": 8,
            "num_keep": 24,
            "use_mmap": True,
        },
        {"mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "tfs_z": 1.0, "typical_p": 1.0},
        {"repeat_last_n": 64, "repeat_penalty": 1.0, "penalize_newline": False},
        {"repeat_last_n": 0, "repeat_penalty": 1.3},
        {"temperature": None, "stop": None, "num_ctx": None, "mirostat": None},
    ],
)
def test_options_that_change_no_answer_are_taken(options: dict[str, Any]):
    assert chat(options=options) == chat()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mirostat": 2}, "mirostat"),
        ({"tfs_z": 0.5}, "tfs_z"),
        ({"repeat_last_n": 64, "repeat_penalty": 1.2}, "repeat_last_n"),
        ({"penalize_newline": False, "repeat_penalty": 1.2}, "penalize_newline"),
        ({"temperature": -1}, "temperature"),
        ({"num_predict": "many"}, "num_predict"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_options_that_would_change_the_answer_are_refused_by_name(options: dict[str, Any], named: str):
    with pytest.raises(FieldError, match=named) as refused:
        options_of(options)
    assert refused.value.param == f"options.{named}"


@pytest.mark.parametrize(
    ("body", "hint"),
    [({"temperature": 0}, "temperature into options"), ({"max_tokens": 5}, "num_predict into options")],
)
def test_a_setting_beside_the_options_is_refused_with_its_place(body: dict[str, Any], hint: str):
    with pytest.raises(FieldError) as refused:
        chat(**body)
    assert hint in refused.value.hint
    with pytest.raises(FieldError) as refused:
        options_of({"max_tokens": 5})
    assert refused.value.hint == "use num_predict"


def test_an_answer_of_a_tool_says_which_call_it_answers():
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b")]
    turns = [{"role": "tool", "content": "B", "tool_name": "b"}, {"role": "tool", "content": "A"}]
    with_ids = [{**call, "id": call["function"]["name"] * 9} for call in calls]
    for stored, ids in ((calls, [None, None]), (with_ids, ["bbbbbbbbb", "aaaaaaaaa"])):
        messages = chat(messages=[USER, {"role": "assistant", "tool_calls": stored}, *turns]).messages
        assert messages is not None
        assert [message.tool_call_id for message in messages[2:]] == ids
        assert [message.name for message in messages[2:]] == ["b", None]
        assert messages[1].tool_calls[0]["function"] == {"name": "a", "arguments": {}}


def test_an_answer_goes_on_from_the_assistants_last_turn():
    asked = chat(messages=[USER, {"role": "assistant", "content": "Once"}])
    assert (asked.continue_final_message, asked.add_generation_prompt) == (True, False)
    done = {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "tool_calls": [{"function": TOOL["function"]}],
    }
    asked = chat(messages=[USER, done])
    assert (asked.continue_final_message, asked.add_generation_prompt) == (False, True)
    assert asked.messages is not None
    assert asked.messages[1].reasoning_content == "hm"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{**USER, "images": ["aGk="]}]}, "messages[0].images"),
        ({"messages": [{"role": "pirate", "content": "hi"}]}, "messages[0].role"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"format": "yaml"}, "format"),
        ({"think": "very"}, "think"),
    ],
)
def test_what_is_not_supported_is_named(fields: dict[str, Any], param: str):
    with pytest.raises(FieldError) as refused:
        chat(**fields)
    assert refused.value.param == param


def test_what_clients_send_to_say_nothing_is_taken():
    nothing = {"tools": [], "format": "", "think": None, "options": {}, "shift": True, "truncate": True}
    assert chat(messages=[{**USER, "images": []}], **nothing) == chat()


def test_thinking_is_an_option_of_the_template():
    assert chat(think=False).template_options == {"enable_thinking": False}
    assert chat(think="high").template_options == {"enable_thinking": True, "reasoning_effort": "high"}


def test_a_prompt_is_a_users_message_unless_it_is_raw():
    def ask(*, templated: bool = True, **fields: Any) -> GenerationRequest:
        data = decode(GenerateRequest, msgspec.json.encode({"model": "m", "prompt": "hi", **fields}))
        check_generate(data)
        return generate_request(data, chat_template=templated)

    assert ask().messages == (Message("user", "hi"),)
    assert ask(system="Be brief.").messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert ask(raw=True).prompt == "hi"
    assert ask(templated=False).prompt == "hi"
    assert ask(suffix="", template="", context=[], images=[]) == ask()
    for name, value in (
        ("suffix", "end"),
        ("template", "{{ .Prompt }}"),
        ("context", [1, 2]),
        ("images", ["aGk="]),
    ):
        with pytest.raises(FieldError) as refused:
            ask(**{name: value})
        assert refused.value.param == name


@pytest.mark.parametrize("name", ["m", "m:latest"])
def test_the_tag_of_clients_says_nothing(name: str):
    assert plain_name(name) == "m"
    assert plain_name("m:7b") == "m:7b"

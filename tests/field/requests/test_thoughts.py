"""Endpoints that think first, and that stream in odd but legal shapes.

A token is a token on whichever channel it comes, and thoughts stay apart from the answer; one odd answer is one failed
request. Errors in a stream are errors, calls stay apart, and nothing that is said is lost. Reported as guidellm #737,
inference-perf #559, in the streams of Azure, Mistral and vLLM; ollama #7881 and #15457, ai #18440 (calls without index
or id), mistral.rs #1874, clicky #132, open-webui #29628 (errors taken for answers), llmgateway #2861,
openai-agents-python #2126 (counts in parts).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.errors import RemoteEngineError
from lqmf_runner.load.run import fill_record
from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.chat import ChatExchange
from lqmf_runner.openai_api.client.answers import StreamReader
from lqmf_runner.openai_api.schemas import ChatCompletionRequest
from lqmf_runner.results.schema import RequestRecord
from lqmf_runner.types import Chunk, Completion, Usage

THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def event(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def read(*events: Any) -> tuple[Completion, StreamReader]:
    reader = StreamReader()
    chunks = [chunk for one in events for chunk in reader.read(json.dumps(one))]
    usage = reader.usage(prefill_s=0, decode_s=0)
    return Completion.of([*chunks, Chunk(finish_reason=reader.finish_reason, usage=usage)]), reader


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_come_apart_from_the_answer_under_either_name(name: str) -> None:
    answer, _ = read(event(**{name: "hm "}), event(**{name: "so"}), event(content="yes"), event("stop"))
    assert (answer.reasoning, answer.text, answer.usage.completion_tokens) == ("hm so", "yes", 3)


def test_thoughts_may_be_a_list_of_details() -> None:
    details = [{"type": "reasoning.text", "text": "hm"}, {"type": "reasoning.encrypted", "data": "x"}]
    assert read(event(reasoning_details=details), event("stop"))[0].reasoning == "hm"
    assert read(event(reasoning="hm", reasoning_details=details), event("stop"))[0].reasoning == "hm"


def test_nothing_that_an_endpoint_says_is_lost() -> None:
    assert read(event(refusal="I can"), event(refusal="not"), event("stop"))[0].text == "I cannot"
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    }
    assert read(whole)[0].text == "hi"
    assert (
        read(event(content="hi"), {"choices": [{"delta": None, "message": {"content": "hi"}}]})[0].text
        == "hi"
    )
    _, reader = read(
        event(function_call={"name": "f", "arguments": '{"n"'}), event(function_call={"arguments": ": 1}"})
    )
    assert '{"name": "f", "arguments": {"n": 1}}' in reader.tool_calls()


def test_counts_may_come_in_several_events() -> None:
    first = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
    details = {"choices": [], "usage": {"prompt_tokens": None, "prompt_tokens_details": {"cached_tokens": 2}}}
    counts = read(first, event(content="a"), event(content="b"), details, event("stop"))[0].usage
    assert (counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens) == (3, 2, 2)


def test_thoughts_under_both_names_come_once() -> None:
    answer, _ = read(event(reasoning="hm", reasoning_content="hm"), event("stop"))
    assert (answer.reasoning, answer.usage.completion_tokens) == ("hm", 1)


@pytest.mark.parametrize(
    ("content", "text", "thoughts"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
        (["a", {"type": "output_text", "text": "b"}], "ab", ""),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "a"},
            ],
            "a",
            "hm",
        ),
        ([{"type": "thinking", "thinking": "hm"}], "", "hm"),
        ([{"type": "image_url", "image_url": {}}], "", ""),
        ([], "", ""),
        (None, "", ""),
    ],
)
def test_content_may_be_a_list_of_parts(content: Any, text: str, thoughts: str) -> None:
    answer, _ = read(event(content=content), event("stop"))
    assert (answer.text, answer.reasoning) == (text, thoughts)


@pytest.mark.parametrize(
    "value", [{"choices": [5]}, {"choices": 5}, event(content=5), {"choices": [{"delta": 5}]}, {"usage": 5}]
)
def test_what_is_not_openai_s_is_an_error_of_that_answer(value: Any) -> None:
    with pytest.raises(RemoteEngineError, match="not OpenAI's"):
        read(value)


@pytest.mark.parametrize(
    ("said", "reason"),
    [("eos_token", "stop"), ("end_turn", "stop"), ("max_tokens", "length"), ("model_length", "length"),
     ("length", "length"), ("tool_calls", "tool_calls"), ("content_filter", "content_filter")],
)  # fmt: skip
def test_the_reason_is_one_of_openai_s(said: str, reason: str) -> None:
    assert read(event(said, content="x"))[0].finish_reason == reason


def test_counts_are_whole_numbers() -> None:
    usage = {"prompt_tokens": 5.0, "completion_tokens": 3.0, "prompt_tokens_details": {"cached_tokens": 2.0}}
    answer, _ = read(event("stop", content="x"), {"choices": [], "usage": usage})
    counts = answer.usage
    assert (counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens) == (5, 2, 3)
    assert isinstance(counts.completion_tokens, int)
    odd = {"prompt_tokens": None, "completion_tokens": "3", "prompt_tokens_details": None}
    assert read(event("stop", content="x"), {"usage": odd})[0].usage.completion_tokens == 1


def test_a_token_is_a_token_on_either_channel() -> None:
    chunks = [Chunk(reasoning="t")] * 2 + [Chunk(text="w")] * 2
    chunks.append(Chunk(finish_reason="stop", usage=Usage(completion_tokens=4)))
    record = RequestRecord(model="m", load="c1", prompt_id="p", turn=0, user=0)
    fill_record(record, chunks, [1.0, 2.0, 3.0, 4.0, 4.0], since=0.5)
    assert (record.ttft_s, record.first_content_s, record.itl_s, record.tpot_s) == (0.5, 2.5, [1.0] * 3, 1.0)
    assert (record.text, record.reasoning, record.error) == ("ww", "tt", None)


def test_thoughts_alone_have_a_first_token_and_no_first_word() -> None:
    chunks = [Chunk(reasoning="t"), Chunk(finish_reason="length", usage=Usage(completion_tokens=1))]
    record = RequestRecord(model="m", load="c1", prompt_id="p", turn=0, user=0)
    fill_record(record, chunks, [1.0, 1.0], since=0.5)
    assert (record.ttft_s, record.first_content_s, record.error) == (0.5, None, None)


@pytest.mark.parametrize("tools", [False, True])
def test_thoughts_are_passed_on_once(tools: bool) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    if tools:
        body["tools"] = [{"type": "function", "function": {"name": "f"}}]
    exchange = ChatExchange(decode(ChatCompletionRequest, json.dumps(body).encode()))
    events = exchange.events().chunks(
        0, [Chunk(reasoning="hm"), Chunk(text="yes"), Chunk(finish_reason="stop")]
    )
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in events.decode().splitlines() if line]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["hm"]
    assert "".join(delta.get("content") or "" for delta in deltas) == "yes"
    usage = Usage(completion_tokens=2)
    whole = exchange.answer(
        [Completion(text="yes", token_ids=(), finish_reason="stop", usage=usage, reasoning="hm")], usage
    )
    assert (whole.choices[0].message.content, whole.choices[0].message.reasoning_content) == ("yes", "hm")


def called(*pieces: dict[str, Any]) -> list[tuple[str, Any]]:
    """Name and arguments of the calls that are read from the pieces."""
    _, reader = read(*(event(tool_calls=[piece]) for piece in pieces), event("tool_calls"))
    calls = reader.tool_calls().split("<tool_call>")[1:]
    found = [json.loads(call.removesuffix("</tool_call>")) for call in calls]
    return [(call["name"], call["arguments"]) for call in found]


def piece(arguments: Any, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"arguments": arguments, **({"name": name} if name else {})}}


A, B = ("read", {"n": 0}), ("write", {"n": 1})


@pytest.mark.parametrize(
    "pieces",
    [
        [piece('{"n"', "read", index=0, id="a"), piece(": 0}", index=0), piece('{"n": 1}', "write", index=1, id="b")],
        [piece('{"n": 0}', "read", index=0, id="a"), piece('{"n": 1}', "write", index=0, id="b")],
        [piece('{"n": 0}', "read", index=0), piece('{"n": 1}', "write", index=0)],
        [piece('{"n": 0}', "read"), piece('{"n"', "write"), piece(": 1}")],
        [piece('{"n": 0}', "read", index=None, id=" "), piece('{"n": 1}', "write", index=None, id="")],
        [piece('{"n"', "read", index=0, id="a"), piece('{"n": 1}', "write", index=1, id="b"), piece(": 0}", index=0)],
        [piece({"n": 0}, "read", id="a"), piece({"n": 1}, "write", id="b")],
        [piece('{"n"', "read", id="a"), piece(": 0}", "read", id="a"), piece('{"n": 1}', "write", id="b")],
        [piece('{"n": 0}', "read", index=0, id="a"), piece("", index=0), piece('{"n": 1}', "write", index=1)],
    ],
)  # fmt: skip
def test_calls_stay_apart_however_their_pieces_are_labelled(pieces: list[dict[str, Any]]) -> None:
    assert called(*pieces) == [A, B]


def test_the_same_tool_may_be_called_twice() -> None:
    assert called(piece('{"n": 0}', "read", index=0), piece('{"n": 0}', "read", index=0)) == [A, A]
    assert called(piece("", "read", index=0), piece("", index=0)) == [("read", {})]


@pytest.mark.parametrize(
    "value",
    [
        {"error": "boom"}, {"error": {"message": "boom", "code": 500}}, {"type": "error", "error": {"message": "boom"}},
        {"object": "error", "message": "boom", "code": 400}, {"detail": "boom"}, {"code": 500, "message": "boom"},
        {"type": "error", "message": "boom"}, {"choices": [], "error": {"message": "boom"}},
    ],
)  # fmt: skip
def test_an_error_in_a_stream_is_not_an_empty_answer(value: Any) -> None:
    with pytest.raises(RemoteEngineError, match="boom"):
        read(event(content="x"), value)


@pytest.mark.parametrize(
    "value", [{"id": "x", "type": "ping"}, {"usage": {"prompt_tokens": 1}}, {"choices": []}]
)
def test_what_says_nothing_is_no_error(value: Any) -> None:
    assert read(event(content="x"), value, event("stop"))[0].text == "x"

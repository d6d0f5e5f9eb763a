"""`RemoteEngine` beside a real HTTP server that answers as OpenAI's API does, or fails as servers do."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from lqmf_runner.decisions.decide import Option, Question, decide
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.errors import InvalidRequestError, RemoteEngineError
from lqmf_runner.types import Constraint, Embeddings, GenerationRequest, Message, SamplingParams
from tests.support.engine.scripted_endpoint import CHAT, USAGE, Endpoint, event, spec


async def test_an_answer_is_streamed_with_its_usage(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/chat/completions"] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        event("Hel"), b": a comment\n\n", event("lo"), event("", "length"),
        {"choices": [], "usage": USAGE}, b"data: [DONE]\n\n",
    ]  # fmt: skip
    chunks = [chunk async for chunk in engine.generate(CHAT)]
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert chunks[-1].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (7, 3, 4)
    assert usage.prefill_s > 0
    stats = await engine.stats()
    assert (stats.requests, stats.prompt_tokens, stats.completion_tokens) == (1, 7, 3)
    assert (await engine.complete(CHAT)).text == "Hello"


async def test_half_a_character_is_replaced(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/chat/completions"] = [
        event("a \ud83d"), event("\ude00"), event("\U0001f600 é"), event("", "stop"), b"data: [DONE]\n\n",
    ]  # fmt: skip
    assert (await engine.complete(CHAT)).text == "a \ufffd\ufffd\U0001f600 é"


async def test_without_usage_the_pieces_are_counted(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/chat/completions"] = [event("a"), event("b", "stop"), b"data: [DONE]\n\n"]
    assert (await engine.complete(CHAT)).usage.completion_tokens == 2


async def test_characters_and_events_that_are_cut_by_the_network_arrive_whole(
    endpoint: Endpoint, engine: EngineClient
) -> None:
    data = (
        b"data: "
        + json.dumps(event("né 🎉 \u2028 \x85.", "stop"), ensure_ascii=False).encode()
        + b"\r\n\r\ndata: [DONE]\r\n\r\n"
    )
    endpoint.answers["/v1/chat/completions"] = [data[i : i + 1] for i in range(len(data))]
    assert (await engine.complete(CHAT)).text == "né 🎉 \u2028 \x85."


async def test_what_is_sent_follows_the_api(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/chat/completions"] = [event("x", "stop")]
    sampling = SamplingParams(
        max_tokens=9, temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=0.3, seed=3, stop=("a", "b"), logit_bias={5: -1.0}, logprobs=2, ignore_eos=True,
    )  # fmt: skip
    await engine.complete(GenerationRequest(messages=(Message("user", "hi"),), sampling=sampling))
    _, _, body = endpoint.requests[-1]
    assert body == {
        "model": "m1", "messages": [{"role": "user", "content": "hi"}], "stream": True,
        "stream_options": {"include_usage": True}, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 4,
        "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "seed": 3,
        "stop": ["a", "b"], "logit_bias": {"5": -1.0}, "logprobs": True, "top_logprobs": 2, "ignore_eos": True,
    }  # fmt: skip
    await engine.complete(CHAT)
    body = endpoint.requests[-1][2]
    assert not {"top_k", "min_p", "repetition_penalty", "ignore_eos", "seed", "stop", "logprobs"} & set(
        body
    ), "a strict server refuses fields it does not know"


async def test_tools_are_sent_and_their_calls_come_back_as_text(
    endpoint: Endpoint, engine: EngineClient
) -> None:
    pieces = [("weather", '{"ci'), ("", 'ty": "Ulm"}')]
    endpoint.answers["/v1/chat/completions"] = [
        {
            "choices": [
                {"delta": {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": text}}]}}
            ]
        }
        for name, text in pieces
    ] + [event("", "tool_calls")]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    request = GenerationRequest(
        messages=(
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "2", name="f", tool_call_id="c1"),
        ),
        tools=({"type": "function", "function": {"name": "f"}},),
        template_options={"enable_thinking": False},
    )
    answer = await engine.complete(request)
    assert answer.text == '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call>'
    assert answer.finish_reason == "tool_calls"
    body = endpoint.requests[-1][2]
    assert body["messages"] == [
        {"role": "assistant", "content": "",
         "tool_calls": [call | {"function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"role": "tool", "content": "2", "name": "f", "tool_call_id": "c1"},
    ]  # fmt: skip
    assert body["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


async def test_plain_prompts_and_tokens_go_to_completions(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/completions"] = [{"choices": [{"text": "abc", "finish_reason": "stop"}]}]
    assert (await engine.complete(GenerationRequest(prompt="x"))).text == "abc"
    assert endpoint.requests[-1][2]["prompt"] == "x"
    await engine.complete(GenerationRequest(prompt_tokens=(1, 2)))
    assert endpoint.requests[-1][2]["prompt"] == [1, 2]
    with pytest.raises(InvalidRequestError, match="empty"):
        await engine.complete(GenerationRequest(prompt=""))


async def test_logprobs_are_read(endpoint: Endpoint, engine: EngineClient) -> None:
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}
    endpoint.answers["/v1/chat/completions"] = [event("a", "stop", logprobs={"content": [entry]})]
    (logprob,) = (await engine.complete(CHAT)).logprobs
    assert (logprob.text, logprob.logprob, logprob.top) == ("a", -0.5, ((-1, "a", -0.5),))


def likely(**values: float) -> dict[str, Any]:
    top = [{"token": text.replace("_", " "), "logprob": value} for text, value in values.items()]
    return event("x", "length", logprobs={"content": [top[0] | {"top_logprobs": top}]}) | {"usage": USAGE}


async def test_a_decision_is_read_from_the_most_likely_tokens(
    endpoint: Endpoint, engine: EngineClient
) -> None:
    endpoint.answers["/v1/chat/completions"] = [
        likely(A=math.log(0.4), _B=math.log(0.2), B=math.log(0.1), x=-3.0)
    ]
    options = (Option("billing"), Option("shipping"), Option("none"))
    question = Question(name="team", kind="choice", text="Which team?", options=options)
    decision = await decide(engine, "It is broken.", [question])
    (answer,) = decision.answers
    assert answer.probabilities == pytest.approx((4 / 7, 3 / 7, 0))
    assert answer.label_mass == pytest.approx(0.7)
    assert (decision.prompt_tokens, decision.cached_tokens) == (7, 4)
    body = endpoint.requests[-1][2]
    assert (body["max_tokens"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (
        1,
        0,
        True,
        20,
    )
    assert body["messages"][0]["content"].startswith("It is broken.\n\nQuestion: Which team?\nA: billing\n")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


async def test_an_endpoint_that_cannot_decide_is_said_so(endpoint: Endpoint, engine: EngineClient) -> None:
    question = Question(name="q", kind="yes_no", text="Really?")
    endpoint.answers["/v1/chat/completions"] = [likely(maybe=-0.1, x=-3.0)]
    with pytest.raises(RemoteEngineError, match="none of the endpoint's 2 most likely"):
        await decide(engine, "state", [question])
    endpoint.answers["/v1/chat/completions"] = [event("yes", "length")]
    with pytest.raises(RemoteEngineError, match="does not tell"):
        await decide(engine, "state", [question])


@pytest.mark.parametrize(
    ("constraint", "sent"),
    [
        (Constraint("json_object"), {"response_format": {"type": "json_object"}}),
        (
            Constraint("json_schema", '{"type": "object"}'),
            {"response_format": {"type": "json_schema", "json_schema":
                {"name": "answer", "strict": True, "schema": {"type": "object"}}}},
        ),
        (Constraint("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        (Constraint("lark", "start: X"), {"structured_outputs": {"grammar": "start: X"}}),
        (Constraint("choice", '["a"]'), {"structured_outputs": {"choice": ["a"]}}),
    ],
)  # fmt: skip
async def test_constraints_are_sent_as_servers_expect_them(
    endpoint: Endpoint, engine: EngineClient, constraint: Constraint, sent: dict[str, Any]
) -> None:
    endpoint.answers["/v1/chat/completions"] = [event("x", "stop")]
    await engine.complete(
        GenerationRequest(messages=(Message("user", "hi"),), sampling=SamplingParams(constraint=constraint))
    )
    assert endpoint.requests[-1][2].items() >= sent.items()


async def test_logprobs_of_completions_are_read(endpoint: Endpoint, engine: EngineClient) -> None:
    told = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.5, "a": -0.5}]}
    endpoint.answers["/v1/completions"] = [
        {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": told}]}
    ]
    (logprob,) = (await engine.complete(GenerationRequest(prompt="x"))).logprobs
    assert (logprob.text, logprob.logprob, logprob.top) == ("a", -0.5, ((-1, "a", -0.5), (-1, "b", -1.5)))


async def test_scores_come_from_echoed_logprobs(endpoint: Endpoint, engine: EngineClient) -> None:
    logprobs = {
        "token_logprobs": [None, -0.1, -2.0, -9.0],
        "top_logprobs": [None, {"b": -0.1}, {"x": -0.4, "c": -2.0}, {"y": -0.3}],
    }
    endpoint.answers["/v1/completions"] = {"choices": [{"text": "", "logprobs": logprobs}]}
    score = await engine.score([5, 6, 7])
    assert score.token_ids == (5, 6, 7)
    assert score.logprobs == (None, -0.1, -2.0)
    assert score.greedy == (None, True, False)
    assert score.top == ()
    score = await engine.score([5, 6, 7], top=1)
    assert score.top == ((), ((-1, "b", -0.1),), ((-1, "x", -0.4),))
    assert endpoint.requests[-1][2]["logprobs"] == 1
    endpoint.answers["/v1/completions"] = {"choices": [{"text": "", "logprobs": None}]}
    with pytest.raises(RemoteEngineError, match="does not echo"):
        await engine.score([5, 6, 7])


async def test_embeddings_come_in_the_order_of_the_texts(endpoint: Endpoint, engine: EngineClient) -> None:
    rows = [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1.0, 2.0]}]
    endpoint.answers["/v1/embeddings"] = {"data": rows}
    assert await engine.embed(["a", "b"]) == Embeddings([[1.0, 2.0], [3.0, 4.5]])
    endpoint.answers["/v1/embeddings"] = {"data": rows, "usage": {"prompt_tokens": 7}}
    assert (await engine.embed([[5, 6], [7]])).prompt_tokens == 7
    assert endpoint.requests[-1][2]["input"] == [[5, 6], [7]]
    await engine.embed(["a", "b"])
    assert endpoint.requests[-1][2] == {"model": "m1", "input": ["a", "b"]}
    for wrong in ("nothing", [5], [{"index": 0, "embedding": "base64"}]):
        endpoint.answers["/v1/embeddings"] = {"data": wrong}
        with pytest.raises(RemoteEngineError, match="embeddings"):
            await engine.embed(["a"])


async def test_tokenizing_is_asked_of_the_server(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers |= {"/tokenize": {"tokens": [1, 2]}, "/detokenize": {"prompt": "ab"}}
    assert await engine.tokenize("ab") == [1, 2]
    assert await engine.detokenize([1, 2]) == "ab"
    assert (await engine.memory()).rss_mb == 0


async def test_an_endpoint_without_a_list_is_asked_for_the_named_model(endpoint: Endpoint) -> None:
    del endpoint.answers["/v1/models"]
    async with await load_engine(spec(endpoint, remote_model="m2")) as engine:
        endpoint.answers["/v1/chat/completions"] = [event("x", "stop")]
        await engine.complete(CHAT)
    assert endpoint.requests[-1][2]["model"] == "m2"
    with pytest.raises(RemoteEngineError):
        await load_engine(spec(endpoint))


async def test_thoughts_in_the_text_come_apart_only_if_that_is_asked_for(
    endpoint: Endpoint, engine: EngineClient
) -> None:
    said = [event("<think>hm"), event("</think>"), event("Yes"), event("", "stop"), b"data: [DONE]\n\n"]
    endpoint.answers["/v1/chat/completions"] = said
    assert (await engine.complete(CHAT)).text == "<think>hm</think>Yes"
    wanted = msgspec.structs.replace(CHAT, separate_thoughts=True)
    answer = await engine.complete(wanted)
    assert (answer.reasoning, answer.text) == ("hm", "Yes")
    apart = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    endpoint.answers["/v1/chat/completions"] = [event(" "), apart, event("<think>Yes"), *said[-2:]]
    answer = await engine.complete(wanted)
    assert (answer.reasoning, answer.text) == ("hm", " <think>Yes")  # the endpoint told them apart itself
    endpoint.answers["/v1/chat/completions"] = [event("<think>cut </th"), event("", "length"), said[-1]]
    assert (await engine.complete(wanted)).reasoning == "cut </th"

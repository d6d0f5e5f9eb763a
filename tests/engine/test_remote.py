"""`RemoteEngine` beside a real HTTP server that answers as OpenAI's API does, or fails as servers do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lqmf_runner.decisions.decide import Option, Question, decide
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.errors import (
    InvalidRequestError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
    UserInputError,
)
from lqmf_runner.types import (
    Constraint,
    Embeddings,
    GenerationRequest,
    Message,
    ModelSpec,
    SamplingParams,
    Window,
)

CHAT = GenerationRequest(
    messages=(Message("user", "hi"),), sampling=SamplingParams(max_tokens=5, temperature=0)
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def event(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}]}


class Endpoint:
    """One HTTP/1.1 server on a free port. `answers` maps a path to what it does; `requests` is what it was sent."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/v1/models": {"data": [{"id": "m1"}]}}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> Endpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split()[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((path, headers, json.loads(body) if body else None))
                await self._answer(
                    self.answers.get(path, (404, {"error": {"message": "no such route"}})), writer
                )
        writer.close()
        self.hung_up.set()

    async def _answer(self, answer: Any, writer: asyncio.StreamWriter) -> None:
        if isinstance(answer, dict | bytes):
            answer = (200, answer)
        if isinstance(answer, tuple):
            status, content, *headers = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}"]
            writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + data)
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for item in answer:
                if item == "drop":
                    writer.transport.abort()
                    return
                if item == "hang":
                    await _until_closed(writer)
                data = item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n"
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _until_closed(writer: asyncio.StreamWriter) -> None:
    while True:  # a comment line is what a real server sends to keep a stream alive
        writer.write(b"3\r\n:\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def engine(endpoint: Endpoint) -> AsyncIterator[EngineClient]:
    async with await load_engine(spec(endpoint)) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def spec(endpoint: Endpoint, **options: Any) -> ModelSpec:
    return ModelSpec(name="far", format="openai", path="", options={"base_url": endpoint.url, **options})


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


async def test_a_key_that_may_not_list_the_models_is_refused(endpoint: Endpoint) -> None:
    endpoint.answers["/v1/models"] = (403, {"error": {"message": "no"}})
    with pytest.raises(UserInputError, match="refused the key"):
        await load_engine(spec(endpoint, remote_model="m1"))


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


@pytest.mark.parametrize("answer", [b"<html>", {"nothing": 1}, [event("x")]])
async def test_a_server_without_tokenizing_is_a_clear_error(
    endpoint: Endpoint, engine: EngineClient, answer: Any
) -> None:
    endpoint.answers["/tokenize"] = answer
    with pytest.raises(RemoteEngineError):
        await engine.tokenize("ab")
    del endpoint.answers["/tokenize"]
    with pytest.raises(RemoteEngineError, match="404"):
        await engine.tokenize("ab")


async def test_the_key_is_sent_and_never_shown(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "open-sesame")
    async with await load_engine(spec(endpoint, api_key_env="SOME_KEY")) as engine:
        endpoint.answers["/v1/chat/completions"] = (401, {"error": {"message": "bad key"}})
        with pytest.raises(UserInputError, match="bad key") as caught:
            await engine.complete(CHAT)
    assert endpoint.requests[0][1]["authorization"] == "Bearer open-sesame"
    assert "api_key_env" in caught.value.hint
    assert "sesame" not in caught.value.message + caught.value.hint
    monkeypatch.delenv("SOME_KEY")
    async with await load_engine(spec(endpoint, api_key_env="SOME_KEY")):
        assert "authorization" not in endpoint.requests[-1][1]


async def test_a_key_with_the_end_of_its_line_is_taken_and_one_that_cannot_be_sent_refused(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "open-sesame\r\n")
    async with await load_engine(spec(endpoint, api_key_env="SOME_KEY")):
        assert endpoint.requests[-1][1]["authorization"] == "Bearer open-sesame"
    monkeypatch.setenv("SOME_KEY", "sésame")
    with pytest.raises(UserInputError, match="the key in SOME_KEY has characters that cannot be sent"):
        await load_engine(spec(endpoint, api_key_env="SOME_KEY"))


@pytest.mark.parametrize(
    ("status", "error", "said", "passed_on"),
    [
        (400, InvalidRequestError, "too long", 400),
        (401, UserInputError, "refused the key", 502),  # our key, not that of whoever asks a server of ours
        (403, InvalidRequestError, "refused the request", 400),  # a gateway that moderates
        (404, RemoteEngineError, "404", 502),
        (422, InvalidRequestError, "too long", 400),
        (429, QueueFullError, "busy", 429),
        (500, RemoteEngineError, "500", 502),
        (503, RemoteEngineError, "503", 503),
    ],
)
async def test_an_error_status_becomes_the_error_it_means(
    endpoint: Endpoint,
    engine: EngineClient,
    status: int,
    error: type[LqmfError],
    said: str,
    passed_on: int,
) -> None:
    for body in (
        {"error": {"message": "too long"}},
        {"error": "too long"},
        {"message": "too long"},
        b"too long",
    ):
        endpoint.answers["/v1/chat/completions"] = (status, body)
        with pytest.raises(error, match=said) as caught:
            await engine.complete(CHAT)
        assert "too long" in caught.value.message
        assert caught.value.status == passed_on
    endpoint.answers["/v1/chat/completions"] = (status, b"<html>" + b"x" * 100_000)
    with pytest.raises(error) as caught:
        await engine.complete(CHAT)
    assert len(caught.value.message) < 500
    assert caught.value.retry_after_s == (1.0 if status in (429, 503) else None)


@pytest.mark.parametrize(("value", "seconds"), [("17", 17.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0)])
async def test_a_busy_endpoint_says_when_to_come_again(
    endpoint: Endpoint, engine: EngineClient, value: str, seconds: float
) -> None:
    endpoint.answers["/v1/chat/completions"] = (429, b"busy", f"retry-after: {value}")
    with pytest.raises(QueueFullError) as caught:
        await engine.complete(CHAT)
    assert caught.value.retry_after_s == seconds


async def test_an_error_in_mid_stream_is_an_error_after_what_came(
    endpoint: Endpoint, engine: EngineClient
) -> None:
    endpoint.answers["/v1/chat/completions"] = [event("so far"), {"error": {"message": "CUDA out of memory"}}]
    stream = engine.generate(CHAT)
    assert (await anext(stream)).text == "so far"
    with pytest.raises(RemoteEngineError, match="mid-stream: CUDA out of memory"):
        await anext(stream)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([event("so far"), "drop"], id="connection lost"),
        pytest.param([event("so far")], id="stream without an end"),
        pytest.param([event("so far"), b"data: {not json\n\n"], id="not JSON"),
        pytest.param([event("so far"), b"data: [1, 2]\n\n"], id="not an object"),
        pytest.param({"choices": []}, id="not a stream"),
    ],
)
async def test_a_broken_stream_is_not_taken_for_a_whole_answer(
    endpoint: Endpoint, engine: EngineClient, answer: Any
) -> None:
    endpoint.answers["/v1/chat/completions"] = answer
    with pytest.raises(RemoteEngineError):
        await engine.complete(CHAT)


async def test_leaving_the_stream_hangs_up(endpoint: Endpoint, engine: EngineClient) -> None:
    endpoint.answers["/v1/chat/completions"] = [event("a"), "hang"]
    stream = engine.generate(CHAT)
    assert (await anext(stream)).text == "a"
    await stream.aclose()
    async with asyncio.timeout(10):
        await endpoint.hung_up.wait()


async def test_a_silent_endpoint_times_out(endpoint: Endpoint) -> None:
    async with await load_engine(spec(endpoint, timeout_s=0.2)) as engine:
        silence = asyncio.Event()

        async def serve(answer: Any, writer: Any) -> None:
            await silence.wait()

        endpoint._answer = serve  # type: ignore[method-assign]
        with pytest.raises(RemoteEngineError, match="Timeout"):
            await engine.complete(CHAT)
        silence.set()


async def test_nobody_listening_is_a_clear_error_with_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        options = {"base_url": url}
        with pytest.raises(RemoteEngineError, match="cannot reach") as caught:
            await load_engine(ModelSpec(name="far", format="openai", path="", options=options))
    assert "backend.base_url" in caught.value.hint


async def test_the_model_is_chosen_by_name(endpoint: Endpoint) -> None:
    endpoint.answers["/v1/models"] = {"data": [{"id": "m1"}, {"id": "m2"}]}
    async with await load_engine(spec(endpoint, remote_model="m2")) as engine:
        endpoint.answers["/v1/chat/completions"] = [event("x", "stop")]
        await engine.complete(CHAT)
    assert endpoint.requests[-1][2]["model"] == "m2"
    with pytest.raises(UserInputError, match="no model 'm3'") as caught:
        await load_engine(spec(endpoint, remote_model="m3"))
    assert "m1, m2" in caught.value.hint
    with pytest.raises(UserInputError, match="has 2 models") as caught:
        await load_engine(spec(endpoint))
    assert "backend.remote_model" in caught.value.hint
    endpoint.answers["/v1/models"] = {"data": []}
    with pytest.raises(UserInputError, match="has 0 models"):
        await load_engine(spec(endpoint))


@pytest.mark.parametrize("answer", [b"<html>", {"models": []}, b"[1]", {"data": [{"name": "m1"}]}])
async def test_something_else_than_an_api_is_a_clear_error(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answers["/v1/models"] = answer
    with pytest.raises(RemoteEngineError, match="list of models") as caught:
        await load_engine(spec(endpoint))
    assert "/v1" in caught.value.hint


async def test_full_distributions_are_refused(engine: EngineClient) -> None:
    window = Window(tokens=[1, 2], first=1, index=0, rows="", n_vocab=10, record=True)
    with pytest.raises(UserInputError, match="behind an endpoint, which does not give full next-token"):
        await engine.score_window(window)

"""Endpoints that refuse, fail, fall silent or are none: errors that say which, and what to do."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.errors import (
    InvalidRequestError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
    UserInputError,
)
from lqmf_runner.types import ModelSpec, Window
from tests.support.engine.scripted_endpoint import CHAT, Endpoint, event, spec


async def test_a_key_that_may_not_list_the_models_is_refused(endpoint: Endpoint) -> None:
    endpoint.answers["/v1/models"] = (403, {"error": {"message": "no"}})
    with pytest.raises(UserInputError, match="refused the key"):
        await load_engine(spec(endpoint, remote_model="m1"))


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

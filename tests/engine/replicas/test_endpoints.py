"""Pools of real HTTP endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.errors import EndpointLostError, EndpointSetupError, RemoteEngineError, UserInputError
from lqmf_runner.formats.pool import PoolBackend
from lqmf_runner.types import GenerationRequest, Message, ModelSpec

from ...support.engine.endpoint import RecordingEndpoint, serve
from ...support.engine.scripted_endpoint import Endpoint, event

NOBODY = "http://127.0.0.1:9/v1"
HELLO = GenerationRequest(messages=(Message("user", "Hello"),))


@pytest.fixture
def endpoints() -> Iterator[list[RecordingEndpoint]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serve(lambda prompt, n=n: f"from {n}")) for n in range(2)]


async def pool(*urls: str, **options: object) -> EngineClient:
    backend = asdict(PoolBackend(base_urls=list(urls))) | options
    return await load_engine(ModelSpec(name="p", format="pool", path="", options=backend))


async def test_requests_spread_over_the_endpoints(endpoints):
    async with await pool(*(endpoint.url for endpoint in endpoints)) as engine:
        answers = {(await engine.complete(HELLO)).text for _ in range(2)}
        assert answers == {"from 0", "from 1"}
        assert [replica.place for replica in engine.replicas()] == [e.url[7:-3] for e in endpoints]
        assert (engine.info.name, engine.info.format) == ("p", "pool")


async def test_a_pool_works_with_the_endpoints_that_answer(endpoints):
    async with await pool(NOBODY, endpoints[1].url) as engine:
        assert [(await engine.complete(HELLO)).text for _ in range(3)] == ["from 1"] * 3
        assert "1 of 2 replicas are ready" in engine.info.notes


def break_off(prompt: str) -> str:
    raise ConnectionError("the endpoint is gone")


async def test_an_endpoint_that_goes_away_is_left_out(endpoints):
    async with await pool(*(endpoint.url for endpoint in endpoints)) as engine:
        endpoints[0].shutdown()
        endpoints[0].server_close()
        endpoints[0].answer = break_off  # on the connection that is there already
        assert [(await engine.complete(HELLO)).text for _ in range(4)] == ["from 1"] * 4
        states = {replica.place: replica.state for replica in engine.replicas()}
        assert states.pop(endpoints[1].url[7:-3]) == "ready"
        assert set(states.values()) <= {"starting", "waiting"}


async def test_a_pool_that_nobody_answers_says_whom_it_asked():
    with pytest.raises(EndpointLostError, match=f"cannot reach {NOBODY}"):
        await pool(NOBODY)


async def test_unlike_models_are_refused_by_name(endpoints):
    endpoints[1].model = "other"
    with pytest.raises(EndpointSetupError) as error:
        await pool(*(endpoint.url for endpoint in endpoints))
    assert f"'m' at {endpoints[0].url}, 'other' at {endpoints[1].url}" in error.value.message
    assert "backend.remote_model" in error.value.hint


async def test_a_pool_of_nothing_is_refused():
    with pytest.raises(UserInputError, match="'p' has no endpoints"):
        await pool()


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        (["http://a/v1", "http://a/v1"], "names an endpoint twice"),
        (["http://a/v1", "a:8000"], "backend.base_urls=a:8000 is not the address"),
        (["http://user:secret@:99999/v1"], r"backend.base_urls=http://\*\*\*@:99999/v1 is not the address"),
    ],
)
def test_a_wrong_list_is_refused(urls, why):
    with pytest.raises(UserInputError, match=why):
        PoolBackend(base_urls=urls)


def stream_of(text: str) -> list[object]:
    return [*(event(f"{word} ") for word in text.split()), event("", "stop"), b"data: [DONE]\n\n"]


@pytest.mark.parametrize("fault", ["drop", "silence", b"data: {broken\n\n", b""])
async def test_a_stream_that_breaks_in_the_middle_is_an_error_and_a_whole_answer_comes_from_elsewhere(fault):
    """BerriAI/litellm#40404: the other endpoint was never asked."""
    async with Endpoint() as broken, Endpoint() as healthy:
        begun = [event("one "), event("two ")]
        after = [] if fault in ("drop", "silence", b"") else stream_of("three")
        broken.answers["/v1/chat/completions"] = [*begun, *([fault] if fault else []), *after]
        healthy.answers["/v1/chat/completions"] = stream_of("all of it")
        async with await pool(broken.url, healthy.url, timeout_s=0.3) as engine:
            assert (await engine.complete(HELLO)).text == "all of it "
            assert len(broken.requests) > 1, "it was asked first"
        async with await pool(broken.url, healthy.url, timeout_s=0.3) as engine:
            pieces: list[str] = []

            async def stream() -> None:
                async for chunk in engine.generate(HELLO):
                    pieces.append(chunk.text)  # noqa: PERF401 (what comes before the error counts)

            with pytest.raises(RemoteEngineError):
                await stream()
            assert "".join(pieces) == "one two "
            asked = len(healthy.requests)
            assert (await engine.complete(HELLO)).text == "all of it "
            assert len(healthy.requests) > asked


async def test_clients_that_leave_leave_no_connection_to_an_endpoint_behind():
    """vllm-project/production-stack#706: after some time the router sent no request on."""
    async with Endpoint() as endpoint:
        endpoint.answers["/v1/chat/completions"] = [event("one "), "hang"]
        async with await pool(endpoint.url) as engine:

            async def leave() -> None:
                async for _ in engine.generate(HELLO):
                    break

            for _ in range(4):
                await asyncio.gather(*(leave() for _ in range(50)))
            async with asyncio.timeout(5):
                while endpoint.open > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            endpoint.answers["/v1/chat/completions"] = stream_of("still here")
            assert (await engine.complete(HELLO)).text == "still here "
            assert [replica.running for replica in engine.replicas()] == [0]


async def test_an_endpoint_that_was_given_up_and_still_answers_can_be_had_again():
    async with Endpoint() as one, Endpoint() as other:
        for endpoint in (one, other):
            endpoint.answers["/v1/chat/completions"] = [event("one "), "hang"]
        async with await pool(one.url, other.url) as engine:

            async def stream() -> None:
                async for _ in engine.generate(HELLO):
                    begun.release()

            begun = asyncio.Semaphore(0)
            asking = [asyncio.create_task(stream()) for _ in range(2)]
            for _ in asking:
                await begun.acquire()
            await engine.scale(1)
            assert [replica.state for replica in engine.replicas()] == ["ready", "draining"]
            await engine.scale(2)
            assert [replica.state for replica in engine.replicas()] == ["ready", "ready"]
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await engine.scale(1)
            await engine.scale(2)  # the other one is being closed at this moment
            assert [(r.number, r.state) for r in engine.replicas()] == [(0, "ready"), (1, "ready")]

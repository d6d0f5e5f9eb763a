"""What is noted of a request for its trace, through the real application."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.modes.server.serve import check
from lqmf_runner.results.schema import RequestTrace
from lqmf_runner.server.watch.observe import ServedRequest
from lqmf_runner.server.watch.traces import TraceRecorder
from lqmf_runner.types import GenerationRequest

from ...support.server.fakes import fake_server
from ..guards.test_keys import Clock

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "a secret"}]}


async def traced(body: dict[str, object], *, content: bool, path: str = CHAT) -> RequestTrace:
    recorder = TraceRecorder(per_minute=10, content=content)
    async with fake_server(watchers=[recorder]) as (client, _):
        assert (await client.post(path, json=body)).status_code == 200
        (trace,) = recorder.take()
        assert recorder.take() == []
    return trace


async def test_a_trace_has_the_figures_and_neither_prompt_nor_answer():
    trace = await traced(BODY, content=False)
    assert (trace.model, trace.route, trace.status, trace.error) == ("m", CHAT, 200, "")
    assert (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens) == (10, 4, 3)
    assert 0 < trace.first_token_s <= trace.duration_s
    assert "secret" not in repr(trace)
    assert "Hello" not in repr(trace)
    assert (trace.inputs, trace.outputs) == (None, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_and_answers_are_in_it_where_they_may_be(stream: bool):
    trace = await traced({**BODY, "n": 2, "stream": stream}, content=True)
    assert trace.inputs == {"messages": BODY["messages"]}
    answer = {"message": {"role": "assistant", "content": "Hello you"}}
    assert trace.outputs == {"choices": [answer, answer]}
    prompts = {"model": "m", "prompt": ["x" * 9000, "y"], "stream": stream}
    trace = await traced(prompts, content=True, path="/v1/completions")
    assert trace.inputs == {"prompt": ["x" * 7999 + "…", "y"]}


async def test_no_more_are_noted_than_the_rate_allows():
    clock = Clock()
    recorder = TraceRecorder(per_minute=2, content=False, clock=clock)
    async with fake_server(watchers=[recorder]) as (client, _):

        async def noted(n: int) -> int:
            for _ in range(n):
                await client.post(CHAT, json=BODY)
            return len(recorder.take())

        assert await noted(5) == 2
        clock.now += 31
        assert await noted(5) == 1
        await client.post(CHAT, json={**BODY, "model": "made-up"})
        assert recorder.take() == []


@pytest.mark.parametrize("asked", [(), (GenerationRequest(prompt="a"),)])
def test_a_cancelled_request_is_noted_only_if_its_model_was_asked(
    asked: tuple[GenerationRequest, ...],
) -> None:
    recorder = TraceRecorder(per_minute=10, content=False)
    request = ServedRequest(CHAT, "perhaps made up", False, 1, {}, asked=asked, cancelled=True)
    recorder.on_start(request)
    recorder.on_end(request)
    assert [trace.model for trace in recorder.take()] == ["perhaps made up"] * len(asked)


def test_traces_want_somewhere_to_go(compose_config):
    config = compose_config("mode=serve", "server.tracing=true", "tracking=none")
    with pytest.raises(UserInputError, match="tracking=none"):
        check(config)
    with pytest.raises(UserInputError, match=r"without server\.tracing"):
        compose_config("mode=serve", "server.tracing_content=true")

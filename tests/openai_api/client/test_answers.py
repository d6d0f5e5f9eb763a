"""What an endpoint answers, read event by event. `tests/engine/remote/` has the same over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.errors import EndpointSetupError, RemoteEngineError
from lqmf_runner.openai_api.client.answers import StreamReader, choose_model, read_score
from lqmf_runner.openai_api.client.events import EventParser
from lqmf_runner.types import Chunk
from tests.support.server.openai_bodies import TOOL, chat


def line(*choices: dict[str, Any], **more: Any) -> str:
    return json.dumps({"choices": list(choices), **more})


def test_a_stream_is_read_to_its_end() -> None:
    reader = StreamReader()
    assert reader.read("") == []
    assert reader.read(line({"delta": {"role": "assistant", "content": ""}})) == []
    assert reader.read(line({"delta": {"content": "Hel"}})) == [Chunk(text="Hel")]
    assert not reader.ended
    assert reader.read(line({"text": "lo", "finish_reason": "length"})) == [Chunk(text="lo")]
    assert (reader.ended, reader.finish_reason) == (True, "length")
    assert reader.usage(prefill_s=1.0, decode_s=2.0).completion_tokens == 2, (
        "the pieces, as nothing is counted yet"
    )
    assert reader.read(line(usage={"prompt_tokens": 7, "completion_tokens": 9})) == []
    usage = reader.usage(prefill_s=1.0, decode_s=2.0)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.decode_s) == (7, 9, 2.0)


def test_done_is_an_end_too() -> None:
    reader = StreamReader()
    assert reader.read("[DONE]") == []
    assert reader.ended


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("{no", "not JSON"),
        ("[1]", "not an object"),
        ('{"error": "sick"}', "mid-stream: sick"),
    ],
)
def test_a_broken_event_is_an_error(data: str, why: str) -> None:
    with pytest.raises(RemoteEngineError, match=why):
        StreamReader().read(data)


def test_what_the_server_streams_the_client_reads() -> None:
    """Both directions of the wire format, without a wire."""

    def read(said: str, **body: Any) -> tuple[str, str, str]:
        events = chat(stream=True, **body).events()
        data = events.chunks(0, [Chunk(text=said), Chunk(finish_reason="stop")])
        reader = StreamReader()
        text = "".join(chunk.text for part in EventParser().feed(data) for chunk in reader.read(part))
        return text, reader.tool_calls(), reader.finish_reason

    call = '<tool_call>\n{"name": "add", "arguments": {"x":1}}\n</tool_call>'
    assert read("a \u2028 b") == ("a \u2028 b", "", "stop")
    assert read(f"Well. {call}", tools=[TOOL]) == ("Well. ", call, "tool_calls")


def test_a_score_has_a_value_for_each_token() -> None:
    choice = {"logprobs": {"token_logprobs": [None, -1.0, -9.0], "top_logprobs": [None, {"a": -1.0}]}}
    score = read_score(choice, [5, 6], top=1)
    assert (score.logprobs, score.greedy, score.top) == ((None, -1.0), (None, True), ((), ((-1, "a", -1.0),)))
    with pytest.raises(RemoteEngineError, match="does not echo"):
        read_score({"logprobs": None}, [5], top=0)


def test_a_model_is_chosen() -> None:
    one, two = {"data": [{"id": "a"}]}, {"data": [{"id": "a"}, {"id": "b"}]}
    assert choose_model(one, None, "e") == "a"
    assert choose_model(two, "b", "e") == "b"
    for listed, wanted in ((two, None), (one, "c"), ({"data": []}, None)):
        with pytest.raises(EndpointSetupError, match=r"^e has"):
            choose_model(listed, wanted, "e")

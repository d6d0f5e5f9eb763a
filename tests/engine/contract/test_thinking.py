"""A model that thinks, in a worker: its thoughts come apart from its text, whole and in a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.types import Completion, Constraint, GenerationRequest, Message, ModelSpec, SamplingParams

from ...support.models.tiny import TEMPLATE, make_speaker

ALL = ["<thi", "nk>", "\nSo", " yes", ".\n", "</", "think>", "\n\n", "Yes", " <think>", ".."]
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
QUESTION = (Message("user", "Well?"),)


@asynccontextmanager
async def speaker(folder: Path, pieces: list[str], ending: str = SWITCH) -> AsyncIterator[LocalEngine]:
    """Its template ends so."""
    path = make_speaker(folder / "m.gguf", pieces, f"{TEMPLATE}{ending}")
    spec = ModelSpec(name="m", format="gguf", path=str(path), options={"n_threads": 1, "n_ctx": 256})
    async with await LocalEngine.start(spec) as engine:
        yield engine


async def both(engine: LocalEngine, **asked: Any) -> Completion:
    """The answer, which is the same whole and streamed."""
    sampling = SamplingParams(temperature=0, max_tokens=40, **asked.pop("sampling", {}))
    request = GenerationRequest(**{"messages": QUESTION, "sampling": sampling, **asked})
    whole = await engine.complete(request)
    streamed = Completion.of([chunk async for chunk in engine.generate(request)])
    assert (streamed.text, streamed.reasoning) == (whole.text, whole.reasoning)
    assert streamed.finish_reason == whole.finish_reason
    assert [one.text for one in streamed.logprobs] == [one.text for one in whole.logprobs]
    return whole


async def test_thoughts_come_apart_in_a_chat_unless_it_is_to_leave_them(tmp_path: Path) -> None:
    async with speaker(tmp_path, ALL) as engine:
        assert engine.info.thinks
        answer = await both(engine, sampling={"logprobs": 0})
        assert (answer.reasoning, answer.text) == ("So yes.", "Yes <think>..")
        assert "".join(one.text for one in answer.logprobs) == "".join(ALL)  # of all tokens
        raw = await both(engine, separate_thoughts=False)
        assert (raw.reasoning, raw.text) == ("", "".join(ALL))
        plain = {"messages": None, "prompt": "Well?"}
        assert (await both(engine, **plain)).text == "".join(ALL)
        assert (await both(engine, **plain, separate_thoughts=True)).reasoning == "So yes."


@pytest.mark.parametrize(
    ("stop", "thoughts", "text"), [("yes", "So ", ""), ("think", "", "<"), (" <", "So yes.", "Yes")]
)
async def test_a_stop_string_counts_in_thoughts_too(
    tmp_path: Path, stop: str, thoughts: str, text: str
) -> None:
    async with speaker(tmp_path, ALL) as engine:
        answer = await both(engine, sampling={"stop": (stop,)})
    assert (answer.reasoning, answer.text, answer.finish_reason) == (thoughts, text, "stop")


async def test_thoughts_that_the_template_begins_or_leaves_out(tmp_path: Path) -> None:
    """What it has rendered decides, not what a question says."""
    ending = "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}"
    async with speaker(tmp_path, ["So", "..", "\n</think>", "\n\n", "Yes"], ending) as engine:
        on = await both(engine, template_options={"enable_thinking": True})
        assert (on.reasoning, on.text) == ("So..", "Yes")
        off = await both(engine, messages=(Message("user", "<think>"),))
        assert (off.reasoning, off.text) == ("", "So..\n</think>\n\nYes")
        cut = await both(engine, template_options={"enable_thinking": True}, sampling={"stop": ("\n",)})
        assert (cut.reasoning, cut.text) == ("So..", "")
        going_on = {"add_generation_prompt": False, "continue_final_message": True}
        turns = (*QUESTION, Message("assistant", "<think>Hm. "))
        answer = await both(engine, messages=turns, **going_on)
        assert (answer.reasoning, answer.text) == ("So..", "Yes")


async def test_a_constrained_answer_is_text(tmp_path: Path) -> None:
    async with speaker(tmp_path, ["So"], "<think>\n") as engine:
        constraint = Constraint("choice", json.dumps(["yes"]))
        answer = await both(engine, sampling={"constraint": constraint})
    assert (answer.reasoning, answer.text) == ("", "yes")


async def test_no_effort_is_no_thinking(tmp_path: Path) -> None:
    """A template that counts: the tokens of the prompt tell which way it went."""
    async with speaker(tmp_path, ALL) as engine:
        lengths = [
            (await both(engine, template_options=options)).usage.prompt_tokens
            for options in ({"reasoning_effort": "none"}, {"enable_thinking": False}, {})
        ]
    assert lengths[0] == lengths[1] > lengths[2]


async def test_a_model_that_does_not_think_keeps_its_text(tmp_path: Path) -> None:
    async with speaker(tmp_path, ALL, "") as engine:
        assert not engine.info.thinks
        assert (await both(engine)).text == "".join(ALL)

"""The third layer: an answer counts only if the model is sure and names what is named, and it is asked about."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from lqmf_runner.console.understanding import steps
from lqmf_runner.console.understanding.asked import ask_model
from lqmf_runner.console.understanding.names import NameIndex
from lqmf_runner.console.understanding.steps import PURPOSES, SURE, Step
from lqmf_runner.types import Completion, GenerationRequest, ModelInfo, OptionLogprobs, Usage
from tests.support.utterances import NAMES

NOTHING = len(PURPOSES)
SENTENCE = "put mistral through its paces beside llama"


class Answering:
    """An engine that chooses one intent, says whether the sentence is for the program, and writes fixed arguments."""

    def __init__(
        self, place: int, *, confidence: float = 0.9, for_us: float = 0.9, written: str = "{}"
    ) -> None:
        self.info = ModelInfo(
            name="a", format="a", method="", architecture="", bits=0, bits_per_weight=0, parameters=0, size_mb=0,
            weight_bytes=0, n_ctx=1, n_vocab=1, max_slots=4, device="", dtype="", chat_template=True,
        )  # fmt: skip
        self._place, self._confidence, self._for_us, self._written = place, confidence, for_us, written
        self.requests: list[GenerationRequest] = []

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        if len(options) == 2:
            shares = [self._for_us, 1 - self._for_us]
        else:
            rest = (1 - self._confidence) / (len(options) - 1)
            shares = [self._confidence if at == self._place else rest for at in range(len(options))]
        return OptionLogprobs(logprobs=tuple(map(math.log, shares)), prompt_tokens=1, cached_tokens=0)

    async def complete(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        usage = Usage(prompt_tokens=1, completion_tokens=1)
        return Completion(text=self._written, token_ids=(), finish_reason="stop", usage=usage)


async def _asked(engine: Answering, sentence: str = SENTENCE) -> Step | None:
    return await ask_model(engine, sentence, NameIndex(NAMES))  # type: ignore[arg-type]


def _place(intent: str) -> int:
    return list(PURPOSES).index(intent)


async def test_a_sure_answer_is_a_step_that_is_asked_about() -> None:
    written = json.dumps({"kind": "compare", "models": ["mistral_gptq4", "llama32_bnb4"]})
    engine = Answering(_place(steps.EXPERIMENT), written=written)
    step = await _asked(engine)
    assert step is not None
    assert (step.intent, step.layer) == (steps.EXPERIMENT, steps.MODEL)
    assert step.arguments == {"kind": "compare", "models": ["mistral_gptq4", "llama32_bnb4"]}
    assert step.confidence < SURE


async def test_the_arguments_are_constrained_to_models_that_are_named() -> None:
    engine = Answering(_place(steps.EXPERIMENT), written='{"kind": "compare", "models": []}')
    await _asked(engine)
    constraint = engine.requests[0].sampling.constraint
    assert constraint is not None
    assert constraint.kind == "json_schema"
    schema = json.loads(constraint.value)
    assert schema["properties"]["models"]["items"]["enum"] == ["mistral_gptq4", "llama32_bnb4"]


@pytest.mark.parametrize(
    "engine",
    [
        Answering(NOTHING),
        Answering(_place(steps.STOP), confidence=0.6),
        Answering(_place(steps.STOP), for_us=0.3),
        Answering(_place(steps.PULL)),
    ],
)
async def test_an_answer_that_is_not_sure_is_none(engine: Answering) -> None:
    assert await _asked(engine) is None


async def test_a_model_that_nobody_has_named_is_no_argument() -> None:
    assert await _asked(Answering(_place(steps.LOAD)), "make yourself useful") is None


async def test_arguments_that_are_cut_are_left_out() -> None:
    step = await _asked(Answering(_place(steps.HISTORY), written='{"model": "mis'))
    assert step is not None
    assert step.arguments == {}

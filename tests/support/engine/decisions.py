"""An engine that answers typed decisions with fixed probabilities, and a body that asks for some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lqmf_runner.decisions.decide import Decision, decide
from lqmf_runner.types import GenerationRequest, ModelInfo, OptionLogprobs

SYSTEMONE = {
    "model": "any",
    "state": {"ticket": "charged twice"},
    "instructions": "Be fair.",
    "chat_template_kwargs": {"mood": "calm"},
    "questions": {
        "team": {
            "type": "choice",
            "instructions": "Who?",
            "criteria": {"billing": "payments", "sales": None},
        },
        "urgent": {"type": "noul", "instructions": "Today?", "criteria": {"true": "money is moving"}},
        "tone": {"type": "score", "instructions": "How upset?", "criteria": ["calm", "annoyed", "furious"]},
    },
}


class Listener:
    """An engine that keeps what it is asked and gives the options probabilities 0.4, 0.2, 0.1, ..."""

    def __init__(self, *, chat_template: bool = True) -> None:
        self.info = ModelInfo(
            name="l", format="l", method="", architecture="", bits=0, bits_per_weight=0, parameters=0, size_mb=0,
            weight_bytes=0, n_ctx=1, n_vocab=1, max_slots=4, device="", dtype="", chat_template=chat_template,
        )  # fmt: skip
        self.asked: list[tuple[GenerationRequest, list[list[str]]]] = []

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        self.asked.append((request, [list(forms) for forms in options]))
        logprobs = tuple(math.log(0.4 / 2**i) for i in range(len(options)))
        return OptionLogprobs(logprobs=logprobs, prompt_tokens=10, cached_tokens=5)


async def answers(body: dict[str, Any], parse: Any) -> tuple[Decision, Listener, Any]:
    engine, request = Listener(), parse(body)
    decision = await decide(
        engine, request.state, request.questions,  # type: ignore[arg-type]
        instructions=request.instructions, template_options=request.template_options,
    )  # fmt: skip
    return decision, engine, request

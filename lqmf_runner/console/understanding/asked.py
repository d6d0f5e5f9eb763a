"""The third layer: a loaded model is asked for the intent, and writes the arguments within a schema.

Its answer is never acted on by itself: each step that comes from here has a confidence below `SURE` and is asked
about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from ...decisions.decide import Option, Question, decide
from ...engine.client import EngineClient
from ...types import Constraint, GenerationRequest, Message, SamplingParams
from . import steps
from .items import read_items
from .names import NameIndex
from .steps import PURPOSES, Step
from .tokens import tokenize

_NOTHING = "something else"
_LEAST = 0.8
_LEAST_MASS = 0.5
_KINDS = ("single", "batch", "conversation", "benchmark", "compare")
_INSTRUCTIONS = (
    "A program runs, serves, benchmarks, compares and quantizes language models on this machine. "
    "A user has typed the sentence above."
)
_NEED_A_NAME = (
    *(steps.LOAD, steps.UNLOAD, steps.CHAT, steps.QUANTIZE, steps.EXPERIMENT),
    *(steps.PROMOTE, steps.ROLL_BACK, steps.SCALE, steps.JUDGE),
)
_TAKE_NO_NAME = (
    steps.STOP,
    steps.STATUS,
    steps.STATISTICS,
    steps.HELP,
    steps.EXIT,
    steps.PROGRESS,
    steps.CANCEL,
)


async def ask_model(engine: EngineClient, sentence: str, names: NameIndex) -> Step | None:
    """What the model takes the sentence for; None if it is not for this program, or the model is not sure.

    Two questions must agree: whether the sentence is for this program at all, and what it asks for.

    Raises:
        LqmfError: the model cannot be asked.
    """
    intents = tuple(PURPOSES)
    options = (*(Option(PURPOSES[intent]) for intent in intents), Option(_NOTHING))
    questions = (
        Question(
            name="what", kind="choice", text="What does the user want the program to do?", options=options
        ),
        Question(
            name="for us", kind="yes_no", text="Does the user ask the program to do one of these things?"
        ),
    )
    decision = await decide(engine, sentence, questions, instructions=_INSTRUCTIONS)
    what, for_us = decision.answers
    place = what.probabilities.index(what.confidence)
    sure = all(a.confidence >= _LEAST and a.label_mass >= _LEAST_MASS for a in decision.answers)
    if not sure or place == len(intents) or for_us.best.name != "yes":
        return None
    intent = intents[place]
    named = _named(sentence, names)
    if intent == steps.PULL or (intent in _NEED_A_NAME and not named):
        return None  # a model that nobody has named would be a guess
    arguments = await _arguments(engine, sentence, intent, named) if named else {}
    confidence = round(min(what.confidence, steps.SURE - 0.05), 2)
    return Step(intent=intent, arguments=arguments, confidence=confidence, layer=steps.MODEL)


def _named(sentence: str, names: NameIndex) -> list[str]:
    """The models whose names, or parts of them, stand in the sentence."""
    found: dict[str, None] = {}
    for item in read_items(tokenize(sentence), names):
        if item.kind == "model" and not item.value.is_format:
            found |= dict.fromkeys(item.value.candidates)
    return list(found)


async def _arguments(
    engine: EngineClient, sentence: str, intent: str, named: Sequence[str]
) -> dict[str, Any]:
    """The arguments of an intent as the model writes them: models only from those that are named."""
    one = {"type": "string", "enum": list(named)}
    properties: dict[str, Any] = {}
    if intent == steps.EXPERIMENT:
        properties["kind"] = {"type": "string", "enum": list(_KINDS)}
        properties["models"] = {"type": "array", "items": one, "minItems": 1, "maxItems": len(named)}
    elif intent == steps.START:
        properties["models"] = {"type": "array", "items": one, "maxItems": len(named)}
    elif named and intent not in _TAKE_NO_NAME:
        properties["model"] = one
    if not properties:
        return {}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    question = f"{sentence}\n\n{_INSTRUCTIONS} It asks to {PURPOSES[intent]}. Write what it names, as JSON."
    request = GenerationRequest(
        sampling=SamplingParams(
            max_tokens=40 + 20 * len(named),
            temperature=0.0,
            constraint=Constraint("json_schema", json.dumps(schema)),
        )
    )
    templated = bool(engine.info.chat_template)
    request = msgspec.structs.replace(
        request,
        messages=(Message("user", question),) if templated else None,
        prompt=None if templated else f"{question}\n",
    )
    completion = await engine.complete(request)
    try:
        written = json.loads(completion.text)
    except ValueError:  # cut at the limit of tokens
        return {}
    if "models" in written:
        written["models"] = list(dict.fromkeys(written["models"]))
    return dict(written)

"""Asks about the ambiguities of a step: the reading, the model, the file. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from .understanding import steps
from .understanding.names import NameIndex
from .understanding.steps import PURPOSES, Step
from .understanding.tokens import tokenize

_YES = frozenset(
    {"y", "yes", "yeah", "yep", "sure", "ok", "okay", "go", "go ahead", "do it", "please", "yes please"}
)
_TRIES = 2


class Screen(Protocol):
    """The console's output and input."""

    def say(self, text: str, style: str = "") -> None:
        """Show some lines. `style` is rich's, e.g. "red"."""

    def ask(self, question: str) -> str | None:
        """Ask, and return what is answered; None if nobody answers."""


def consents(screen: Screen, question: str) -> bool:
    """Whether the user says yes; anything else is no."""
    answer = screen.ask(f"{question} [y/N] ")
    return answer is not None and answer.strip().lower().rstrip(".!") in _YES


def settle(step: Step, screen: Screen) -> Step | None:
    """The step without ambiguities; None if the user does not answer."""
    if step.others:
        readings = [step.intent, *step.others]
        chosen = _choose(screen, "What do you mean?", [PURPOSES[intent] for intent in readings])
        if chosen is None:
            return None
        step = _as_intent(step, readings[chosen])
    for argument, names in step.choices.items():
        left = list(names)
        while left:
            chosen = _choose(screen, "Which model?" if left == list(names) else "And which other?", left)
            if chosen is None:
                return None
            name = left.pop(chosen)
            value = [*step.arguments.get(argument, []), name] if argument == "models" else name
            step = _with(step, **{argument: value})
            if len(step.models) >= (2 if step.arguments.get("kind") == "compare" else 1):
                break
    for argument, question in _missing(step):
        answer = screen.ask(question)
        if not (answer or "").strip():
            return None
        step = _with(step, **{argument: str(answer).strip()})
    if step.confidence < steps.SURE and not step.others and not step.choices:
        models = f" ({', '.join(step.models)})" if step.models else ""
        if not consents(screen, f"Do you mean: {PURPOSES[step.intent]}{models}?"):
            return None
    return msgspec.structs.replace(step, confidence=1.0, choices={}, others=())


def among(step: Step, names: Sequence[str]) -> Step:
    """Of the models that an unclear name fits, only those are meant that the step can be about, if there are such."""
    fitting = [name for name in step.choices.get("model", []) if name in names]
    if not fitting:
        return step
    if len(fitting) > 1:
        return msgspec.structs.replace(step, choices={"model": fitting})
    return msgspec.structs.replace(_with(step, model=fitting[0]), choices={}, confidence=1.0)


def open_points(step: Step) -> str:
    """The questions in short form; empty if there are none."""
    if step.others:
        return "it may mean: " + ", or ".join(PURPOSES[intent] for intent in (step.intent, *step.others))
    for names in step.choices.values():
        return "it may be any of the models " + ", ".join(names)
    for argument, _ in _missing(step):
        return (
            f"it is not said how many {argument}" if argument == "replicas" else f"the {argument} is not said"
        )
    return "it is not sure" if step.confidence < steps.SURE else ""


def _missing(step: Step) -> list[tuple[str, str]]:
    kind = step.arguments.get("kind")
    if kind == "single" and not step.arguments.get("message"):
        return [("message", "What shall I ask it? ")]
    if kind == "batch" and not step.arguments.get("file"):
        return [("file", "Which file has the prompts? ")]
    name = step.arguments.get("model")
    if step.intent == steps.PROMOTE and not step.arguments.get("version"):
        return [("version", f"Which version of {name}, a number or an alias? ")]
    if step.intent == steps.SCALE and not step.arguments.get("replicas"):
        return [("replicas", f"How many replicas of {name}? ")]
    return []


def _choose(screen: Screen, question: str, choices: Sequence[str]) -> int | None:
    """The place of the choice that is answered with its number, or with enough of its name."""
    listed = "\n".join(f"  {number}  {choice}" for number, choice in enumerate(choices, 1))
    for _ in range(_TRIES):
        answer = screen.ask(f"{question}\n{listed}\n> ")
        if answer is None or not answer.strip():
            return None
        text = answer.strip()
        if text.isdecimal() and 1 <= int(text) <= len(choices):
            return int(text) - 1
        mention = NameIndex(choices).mention(tokenize(text), 0, frozenset())
        if mention is not None and len(mention.candidates) == 1:
            return list(choices).index(mention.candidates[0])
        screen.say("Answer with a number or a name.", "yellow")
    return None


def _as_intent(step: Step, intent: str) -> Step:
    """The step as another intent, with its models under the name that one has for them."""
    arguments = {key: value for key, value in step.arguments.items() if key not in ("model", "models")}
    if step.models and intent in (steps.EXPERIMENT, steps.START):
        arguments["models"] = step.models
    elif step.models:
        arguments["model"] = step.models[0]
    if intent == steps.EXPERIMENT:
        arguments.setdefault("kind", "benchmark")
    choices = {
        "models" if intent in (steps.EXPERIMENT, steps.START) else "model": names
        for names in step.choices.values()
    }
    return msgspec.structs.replace(
        step, intent=intent, arguments=arguments, choices=choices, others=(), confidence=1.0
    )


def _with(step: Step, **arguments: object) -> Step:
    return msgspec.structs.replace(step, arguments=step.arguments | arguments)

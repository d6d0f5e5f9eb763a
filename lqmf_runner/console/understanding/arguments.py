"""Holds items against frames, and makes steps with their arguments of those that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from . import steps
from .frames import FRAMES, MAY, NO_MODEL, ONE, PAIR, QUESTIONS, SEVERAL, Frame
from .items import Item
from .names import Mention, NameIndex, is_format
from .steps import Step

_METHODS = {
    "bnb": "bnb", "bitsandbytes": "bnb", "nf4": "bnb", "int8": "bnb", "gptq": "gptq", "gguf": "gguf", "bf16": "bf16",
}  # fmt: skip
_OPTIMIZE = {"fast": "speed", "small": "memory", "accurate": "fidelity"}
_ARGUMENT = {"memory": "max_memory_mb", "speed": "min_tokens_per_s", "loads": "users", "number": "limit"}
_NOT_SAID = 2
_ASKING = frozenset({"is", "are", "was", "were", "did", "does", "has", "which", "what", "how", "why", "who"})
_FORMATS_OF_MODELS = ("bnb", "gptq", "gguf", "bf16")


@dataclass
class Reading:
    """One way to read a part of a sentence.

    Attributes:
        score: how well it fits; less where no word stands for a model that it takes.
        specific: the same without that.
    """

    steps: list[Step]
    score: float
    specific: float

    @property
    def intent(self) -> str:
        """Of its steps, which all have the same."""
        return self.steps[0].intent


@dataclass(frozen=True)
class _Models:
    """The models of a part: those that are named, and what may be meant where it is not clear."""

    names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    reference: str | None = None
    all: bool = False


def readings(items: Sequence[Item], names: NameIndex, before: Sequence[str]) -> Iterator[Reading]:
    """All readings of a part of a sentence.

    Args:
        before: the models that "it" stands for.
    """
    asked = _is_question(items)
    for frame in FRAMES:
        if asked and frame.intent not in QUESTIONS:
            continue
        part = _quantize_values(items) if frame.intent == steps.QUANTIZE else list(items)
        part = _format_values(part) if frame.intent == steps.LIST_MODELS else part
        part = _version_values(part) if frame.intent == steps.PROMOTE else part
        part = _replica_values(part) if frame.intent == steps.SCALE else part
        part = _split_values(part) if frame.intent == steps.JUDGE else part
        if _explains(frame, part):
            made = _steps(frame, part, names, before)
            if made:
                left_out = _NOT_SAID if _is_not_said(frame, part, made) else 0
                yield Reading(made, frame.score - left_out, frame.score)


def _is_question(items: Sequence[Item]) -> bool:
    """Whether a part begins as a question does."""
    first = next((item for item in items if not item.is_filler), None)
    return first is not None and first.kind == "word" and str(first.value).split()[0] in _ASKING


def _is_not_said(frame: Frame, items: Sequence[Item], made: Sequence[Step]) -> bool:
    """Whether it takes a model that no word of the sentence stands for."""
    named = any(item.kind == "model" or item.is_pronoun or "models" in item.meanings for item in items)
    return frame.models in (ONE, SEVERAL, PAIR) and not named and bool(made[0].choices)


def _explains(frame: Frame, items: Sequence[Item]) -> bool:
    kinds = [item.kind for item in items]
    if not frame.needs <= set(kinds):
        return False
    mentions = kinds.count("model")
    if mentions and frame.models == NO_MODEL:
        return False
    for item in items:
        if item.kind not in ("word", "comma", "model") and item.kind not in frame.takes:
            return False
        if item.kind == "word" and not item.is_filler and not item.meanings & frame.meanings:
            return False
    if any(_is_other_bound(*pair) for pair in pairwise(items)):
        return False
    return _filled(frame.need, [item.meanings for item in items if item.kind == "word"])


def _is_other_bound(word: Item, value: Item) -> bool:
    """Whether a limit is said the wrong way round: "over 2 GB", "under 20 tok/s" are no limits of a verdict."""
    wrong = {"memory": "least", "speed": "upper"}.get(value.kind)
    return wrong in word.meanings


def _filled(need: Sequence[frozenset[str]], meanings: Sequence[frozenset[str]]) -> bool:
    """Whether each group can have an item of its own."""
    if not need:
        return True
    return any(
        _filled(need[1:], [*meanings[:at], *meanings[at + 1 :]])
        for at, meaning in enumerate(meanings)
        if meaning & need[0]
    )


def _steps(frame: Frame, items: Sequence[Item], names: NameIndex, before: Sequence[str]) -> list[Step]:
    models = _models(frame, items, names, before)
    if models is None:
        return []
    arguments: dict[str, Any] = dict(frame.arguments)
    for item in items:
        if item.kind in frame.takes:
            arguments[_ARGUMENT.get(item.kind, item.kind)] = item.value
    if "type" in arguments:
        arguments["type"] = str(arguments["type"]).upper()
        arguments.setdefault("method", "gguf")
    if frame.intent == steps.RECOMMEND:
        arguments |= _optimize(items)
    if frame.intent == steps.STOP and any("all" in item.meanings for item in items):
        arguments["all"] = True
    likeness = min((item.likeness for item in items), default=1.0)
    layer = steps.GRAMMAR if likeness == 1 else steps.FUZZY
    confidence = round(likeness, 2)
    step = Step(intent=frame.intent, arguments=arguments, confidence=confidence, layer=layer)
    if frame.intent == steps.RECOMMEND and isinstance(users := arguments.get("users"), list):
        return [_replace(step, users=number) for number in users]  # a verdict holds for one load
    return _with_models(frame, step, models)


def _with_models(frame: Frame, step: Step, models: _Models) -> list[Step]:
    """The step with its models: a step each where it takes one."""
    key = _key(frame)
    if models.all:
        return [_replace(step, all=True)]
    if models.choices:
        asked = Step(
            intent=step.intent,
            arguments=step.arguments | ({key: list(models.names)} if models.names else {}),
            confidence=0.5,
            layer=step.layer,
            choices={key: list(models.choices)},
        )
        return [asked]
    if not models.names:
        return [step]
    if frame.models == ONE:
        return [_replace(step, **{key: name}) for name in models.names]
    if models.reference:
        step = _replace(step, reference=models.reference)
    several = frame.intent in (steps.EXPERIMENT, steps.START)
    return [_replace(step, **({"models": list(models.names)} if several else {"model": models.names[0]}))]


def _key(frame: Frame) -> str:
    if frame.intent == steps.RECOMMEND:
        return "why"
    return "models" if frame.intent in (steps.EXPERIMENT, steps.START) else "model"


def _replace(step: Step, **arguments: Any) -> Step:
    return Step(
        intent=step.intent,
        arguments=step.arguments | arguments,
        confidence=step.confidence,
        layer=step.layer,
    )


def _models(frame: Frame, items: Sequence[Item], names: NameIndex, before: Sequence[str]) -> _Models | None:
    """The models of a part; None if it does not have those that the frame needs."""
    if frame.models == NO_MODEL:
        return _Models()
    found: list[str] = []
    choices: tuple[str, ...] = ()
    family = _first_family(items)
    reference: str | None = None
    every = any("all" in item.meanings for item in items)
    for at, item in enumerate(items):
        if item.kind != "model":
            continue
        mention: Mention = item.value
        candidates = mention.candidates
        if mention.is_format and family:
            candidates = names.narrowed([*family, *mention.words]) or candidates
        elif not mention.is_format:
            family = tuple(word for word in mention.words if not is_format(word))
        if len(candidates) == 1 and reference is None and _is_reference(items, at):
            reference = candidates[0]
        elif len(candidates) == 1 or every or _is_plural(items, at):
            found += [name for name in candidates if name not in found]
        else:
            choices = choices or candidates
    if choices:
        return _Models(choices=choices)
    if (
        not found and every and frame.intent == steps.START
    ):  # a server loads each model when a request names it
        return _Models() if any("models" in item.meanings for item in items) else None
    if not found and every and frame.models != MAY:
        return _Models(all=True) if frame.intent in (steps.UNLOAD, steps.EXPERIMENT) else None
    if not found and frame.models != MAY:
        of_split = frame.intent == steps.JUDGE and not any(item.is_pronoun for item in items)
        if not before or of_split:  # a split is what the server says, not what was talked about
            return _Models(choices=names.names)
        found = list(before)
    elif len(found) < (2 if frame.models == PAIR else 1) and any(item.is_pronoun for item in items):
        found = list(dict.fromkeys([*before, *found]))
    if frame.models == PAIR and len(found) < 2 and not reference:
        return _Models(tuple(found), tuple(name for name in names.names if name not in found))
    return _Models(tuple(found), reference=reference)


def _first_family(items: Sequence[Item]) -> tuple[str, ...]:
    """The first name without its format: "the 4 bit and the 8 bit smollm2" are both of smollm2."""
    for item in items:
        if item.kind == "model" and not item.value.is_format:
            return tuple(word for word in item.value.words if not is_format(word))
    return ()


def _is_plural(items: Sequence[Item], at: int) -> bool:
    """Whether all models are meant that a mention fits: "the gguf models"."""
    return any(item.value == "models" for item in items[at + 1 : at + 2])


def _is_reference(items: Sequence[Item], at: int) -> bool:
    """Whether a model is called the reference: "reference X", "X as the reference"."""
    after = items[at + 1 : at + 2]
    before = items[at - 1 : at] if at else []
    return any("reference" in item.meanings for item in (*after, *before))


def _optimize(items: Sequence[Item]) -> dict[str, str]:
    for item in items:
        for meaning, aim in _OPTIMIZE.items():
            if meaning in item.meanings:
                return {"optimize": aim}
    return {}


def _quantize_values(items: Sequence[Item]) -> list[Item]:
    """The items, with formats and numbers of bits as what is to be made. The first model stays the source."""
    made: list[Item] = []
    for item in items:
        if item.kind == "model" and item.value.is_format:
            made += [_value(word, item) for word in item.value.words]
        elif item.kind == "bits":
            made.append(_value(item.value, item))
        else:
            made.append(item)
    return made


def _value(word: str, item: Item) -> Item:
    if word in _METHODS:
        return Item("method", _METHODS[word], item.start, item.end)
    if word.endswith("bit"):
        return Item("bits", int(word.removesuffix("bit")), item.start, item.end)
    return Item("type", word, item.start, item.end)


def _version_values(items: Sequence[Item]) -> list[Item]:
    """ "the candidate of qwen": a version by its alias; "qwen@2" is the model and the version."""
    made: list[Item] = []
    for item in items:
        if "candidate" in item.meanings:
            made.append(Item("version", "candidate", item.start, item.end))
        elif item.kind == "model" and "@" in item.value.candidates[0]:
            names = tuple(name.partition("@")[0] for name in item.value.candidates)
            made.append(replace(item, value=replace(item.value, candidates=names)))
            made.append(Item("version", item.value.candidates[0].partition("@")[2], item.start, item.end))
        else:
            made.append(item)
    return made


def _replica_values(items: Sequence[Item]) -> list[Item]:
    """ "scale qwen to 2", "down to one": the number, if no other word says how many."""
    if any(item.kind == "replicas" for item in items):
        return list(items)
    return [
        Item("replicas", 1 if item.value == "one" else int(float(item.value)), item.start, item.end)
        if item.kind == "number" or item.value == "one"
        else item
        for item in items
    ]


def _split_values(items: Sequence[Item]) -> list[Item]:
    """ "the two versions", "qwen@1 and qwen@2": a split is judged as a whole, by the name of the model."""
    made: list[Item] = []
    for item in items:
        if item.kind == "model":
            names = tuple(dict.fromkeys(name.partition("@")[0] for name in item.value.candidates))
            made.append(replace(item, value=replace(item.value, candidates=names)))
        elif item.kind != "number":
            made.append(item)
    return made


def _format_values(items: Sequence[Item]) -> list[Item]:
    """ "list the gguf models": the format, and no model."""
    return [
        Item("format", item.value.words[0], item.start, item.end)
        if item.kind == "model" and item.value.words[0] in _FORMATS_OF_MODELS and len(item.value.words) == 1
        else item
        for item in items
    ]

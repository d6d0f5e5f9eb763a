"""The first two layers: plain forms, then the same with typing errors corrected. A sentence becomes its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from . import steps
from .arguments import Reading, readings
from .items import Item, named_by_commands, read_items
from .made import models_after
from .names import NameIndex
from .steps import Step
from .tokens import Token, tokenize

_LINKS = frozenset({"and", "then", "afterwards", "after", "next", "finally"})
_REPORT = frozenset({"report"})
_INTRODUCES = ("to", "about", "that", "whether", "this")
_LONGEST = 2000
_MOST_ITEMS = 60
_MOST_NAMES = 4


class Understanding:
    """Understands sentences about the models with these names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = NameIndex(names)

    def know(self, names: Sequence[str]) -> None:
        """Understand sentences about the models with these names from now on."""
        if tuple(dict.fromkeys(names)) != self.names.names:
            self.names = NameIndex(names)

    def steps(self, sentence: str, models: Sequence[str] = (), *, report: bool = False) -> list[Step]:
        """What the sentence asks for, in order; one step with the intent UNKNOWN if any part is not understood.

        Args:
            models: those that "it" stands for at the beginning.
            report: a report was shown last, so that "it" may stand for that too.
        """
        return _Sentence(sentence, self.names, tuple(models), report=report).understood()


class _Sentence:
    def __init__(self, text: str, names: NameIndex, models: tuple[str, ...], *, report: bool) -> None:
        self._text = text
        self._names = names
        self._models = models
        self._report = report
        self._tokens = tokenize(text) if len(text) <= _LONGEST else []
        self._items = read_items(self._tokens, names)
        self._splits: dict[tuple[int, tuple[str, ...], bool], list[Step] | None] = {}

    def understood(self) -> list[Step]:
        if self._text.strip() in ("?", "??"):
            return [Step(intent=steps.HELP)]
        if not self._items or len(self._items) > _MOST_ITEMS:
            return [Step(intent=steps.UNKNOWN, confidence=0.0, unclear=tuple(self._text.split()[:5]))]
        found = self._split(0, self._models, self._report)
        if found is None or any(step.choices for step in found):
            found = self._with_commands_as_names() or found
        if found is None:
            return [Step(intent=steps.UNKNOWN, confidence=0.0, unclear=self._unclear())]
        merged: list[Step] = []
        for step in found:
            if not merged or (merged[-1].intent, merged[-1].arguments) != (step.intent, step.arguments):
                merged.append(step)
        return merged

    def _with_commands_as_names(self) -> list[Step] | None:
        """ "promote chat": the steps where a word of the lexicon names a model, if that leaves nothing open."""
        places = named_by_commands(self._tokens, self._names)[-_MOST_NAMES:]
        plain = self._items
        for chosen in [*({place} for place in reversed(places)), set(places)]:
            self._items = read_items(self._tokens, self._names, chosen)
            self._splits.clear()
            found = self._split(0, self._models, self._report)
            if found is not None and not any(step.choices for step in found):
                return found
        self._items = plain
        self._splits.clear()
        return None

    def _split(self, start: int, models: tuple[str, ...], report: bool) -> list[Step] | None:
        """The steps from an item on: as few as explain everything. None if something is left.

        Each is found once: many ways to cut the beginning lead to the same rest.
        """
        key = start, models, report
        if key not in self._splits:
            self._splits[key] = self._cut(start, models, report)
        return self._splits[key]

    def _cut(self, start: int, models: tuple[str, ...], report: bool) -> list[Step] | None:
        items = self._items
        if (asked := self._question(start, models)) is not None:
            return asked
        for end in self._ends(start):
            part = self._part(items[start:end], models, report)
            if part is None:
                continue
            following = end
            while following < len(items) and _is_link(items[following]):
                following += 1
            named = tuple(
                dict.fromkeys(name for step in part for name in models_after(step.intent, step.arguments))
            )
            if part[0].intent != steps.QUANTIZE:  # what that makes may have no name yet
                named = named or models
            shown = part[-1].intent == steps.REPORT
            rest = self._split(following, named, shown) if following < len(items) else []
            if rest is not None:
                return [*part, *rest]
        return None

    def _ends(self, start: int) -> list[int]:
        """Where the first step may end: before a link that another verb follows, at the end, before any link.

        "... and is fastest" goes on with the same question.
        """
        items = self._items
        links = [
            at for at in range(start + 1, len(items)) if _is_link(items[at]) and not _is_link(items[at - 1])
        ]
        strong: list[int] = []
        weak: list[int] = []
        for at in links:
            rest = [item for item in items[at:] if not _is_link(item) and not item.is_filler]
            begins = rest and rest[0].kind == "word" and "is" not in rest[0].meanings
            (strong if begins else weak).append(at)
        return [*strong, len(items), *reversed(weak)]

    def _part(self, items: Sequence[Item], models: tuple[str, ...], report: bool) -> list[Step] | None:
        topic = _after_how_to(items)
        if topic is not None:
            return self._help(topic)
        found = _best(readings(_about_report(items), self._names, ())) if report else None
        found = found or _best(readings(items, self._names, models))
        return found.steps if found else None

    def _help(self, items: Sequence[Item]) -> list[Step] | None:
        asked = [item for item in items if item.kind != "number"]  # "compare two models"
        found = max(readings(asked, self._names, ()), key=lambda reading: reading.specific, default=None)
        if found is None or found.intent in (steps.HELP, steps.EXIT):
            return None
        likeness = min(item.likeness for item in items)
        return [Step(
            intent=steps.HELP,
            arguments={"topic": found.intent},
            confidence=round(likeness, 2),
            layer=steps.GRAMMAR if likeness == 1 else steps.FUZZY,
        )]  # fmt: skip

    def _question(self, start: int, models: tuple[str, ...]) -> list[Step] | None:
        """ "ask qwen why the sky is blue": what follows the model is the question, whatever it is."""
        items = self._items
        at = start
        while at < len(items) and items[at].is_filler and not items[at].is_pronoun:
            at += 1
        if at + 2 >= len(items) or "ask" not in items[at].meanings:
            return None
        whom = items[at + 1]
        if whom.kind == "model":
            named = whom.value.candidates
        elif whom.is_pronoun and models:
            named = models
        else:
            return None
        end = at + 2
        others: list[Item] = []
        while (
            whom.kind == "model"
            and end + 1 < len(items)
            and _is_link(items[end])
            and items[end + 1].kind == "model"
        ):
            others.append(items[end + 1])
            end += 2
        if others:
            return self._ask_each([whom, *others], end)
        message = self._message(end)
        likeness = min(items[at].likeness, whom.likeness)
        several = len(named) > 1
        return [Step(
            intent=steps.EXPERIMENT,
            arguments={"kind": "single", "message": message} | ({} if several else {"models": list(named)}),
            choices={"models": list(named)} if several else {},
            confidence=0.5 if several else round(likeness, 2),
            layer=steps.GRAMMAR if likeness == 1 else steps.FUZZY,
        )]  # fmt: skip

    def _ask_each(self, whom: Sequence[Item], at: int) -> list[Step] | None:
        """ "ask qwen and mistral why": a step each. None where a name is unclear or there is no question."""
        if at >= len(self._items) or any(len(item.value.candidates) > 1 for item in whom):
            return None
        message, likeness = self._message(at), min(item.likeness for item in whom)
        layer = steps.GRAMMAR if likeness == 1 else steps.FUZZY
        return [Step(
            intent=steps.EXPERIMENT,
            arguments={"kind": "single", "message": message, "models": list(item.value.candidates)},
            confidence=round(likeness, 2),
            layer=layer,
        ) for item in whom]  # fmt: skip

    def _message(self, at: int) -> str:
        """What stands in quotes, if that is all from an item on; else the text from there, less what introduces it."""
        items = self._items
        last = items[at:]
        while len(last) > 1 and str(last[0].value) in _INTRODUCES:
            last = last[1:]
        if len(last) == 1 and last[0].kind == "message":
            return str(last[0].value)
        text = self._text[self._tokens[items[at].start].start :].strip(" \t:")
        introduced = "|".join(_INTRODUCES)
        return re.sub(rf"^(?:{introduced})\s+", "", text, flags=re.IGNORECASE).strip()

    def _unclear(self) -> tuple[str, ...]:
        """The words that mean nothing here, as they were typed; all where each means something by itself."""
        strange = tuple(
            self._text[self._tokens[item.start].start : self._tokens[item.end - 1].end]
            for item in self._items
            if item.kind == "word" and not item.meanings and not item.is_filler
        )
        return strange or tuple(token.text for token in self._tokens)


def _best(found: Iterator[Reading]) -> Reading | None:
    """The most specific reading; one of another intent that is as specific makes it a question."""
    ordered = sorted(found, key=lambda reading: -reading.score)
    if not ordered:
        return None
    best = ordered[0]
    rivals = {
        reading.intent: None
        for reading in ordered
        if reading.score == best.score and reading.intent != best.intent
    }
    if rivals:
        best.steps = [
            msgspec.structs.replace(step, confidence=min(step.confidence, 0.5), others=tuple(rivals))
            for step in best.steps
        ]
    return best


def _about_report(items: Sequence[Item]) -> list[Item]:
    """ "open it", after a report: the pronouns are the report, and no model."""
    return [replace(item, value="report", meanings=_REPORT) if item.is_pronoun else item for item in items]


def _is_link(item: Item) -> bool:
    return item.kind == "comma" or (item.kind == "word" and item.value in _LINKS)


def _after_how_to(items: Sequence[Item]) -> Sequence[Item] | None:
    """What somebody asks how to do; None if nobody asks."""
    for at, item in enumerate(items):
        if "how_to" in item.meanings:
            return items[at + 1 :] or None
        if not item.is_filler:
            return None
    return None


__all__ = ["Step", "Token", "Understanding"]

"""Tells a model's thoughts, which it writes between <think> and </think>, from its answer while it comes."""

from __future__ import annotations

import re

from ..types import GenerationRequest

_OPEN, _CLOSE = "<think>", "</think>"
_SWITCH = "enable_thinking"
_LEFT_OPEN = re.compile(rf"{_OPEN}(?!(\\n|\s)*{_CLOSE})")  # in a template's source a newline may be an escape


def knows_thoughts(template: str) -> bool:
    """Whether a chat template is one of a model that thinks."""
    return _SWITCH in template or _OPEN in template or "reasoning_effort" in template


def opens_thoughts(template: str) -> bool:
    """Whether the template itself begins the thoughts if it is to think, so that an answer begins within them."""
    end = template.rpartition("add_generation_prompt")[2]
    if _CLOSE in end and _SWITCH not in end:  # what decides between the two is not known
        return False
    return _LEFT_OPEN.search(end) is not None


def begins_in_thoughts(asked: GenerationRequest, template: str) -> bool:
    """Whether the answer begins within thoughts: of the text that it goes on from, or begun by the template."""
    if asked.prompt is not None:
        before = asked.prompt
    elif asked.messages and asked.continue_final_message:
        before = asked.messages[-1].content or ""
    else:
        return opens_thoughts(template)
    return isinstance(before, str) and before.rfind(_OPEN) > before.rfind(_CLOSE)


class ThoughtReader:
    """Takes the pieces of one answer and gives back its thoughts and its text.

    Only thoughts with which an answer begins are told apart. What may be a part of a mark is held back until it is
    certain.

    Args:
        opened: the prompt has begun the thoughts.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._held = ""
        self._begun = False  # whether there are thoughts already
        self._state = "inside" if opened else "before"  # then "inside", "after" the thoughts, and "text"

    def feed(self, piece: str) -> tuple[str, str]:
        """The thoughts and the text that are certain now."""
        if self._state == "text":
            return "", piece
        self._held += piece
        thoughts = ""
        if self._state == "before":
            begun = self._held.lstrip()
            if begun.startswith(_OPEN):
                self._state, self._held = "inside", begun.removeprefix(_OPEN)
            elif not _OPEN.startswith(begun):
                self._state = "text"
        if self._state == "inside":
            thoughts = self._inside()
        if self._state == "after":  # templates put empty lines between the thoughts and the text
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
        if self._state != "text":
            return thoughts, ""
        text, self._held = self._held, ""
        return thoughts, text

    def end(self) -> tuple[str, str]:
        """What was held back: thoughts if the answer ended in them."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "inside" else ("", held)

    def _inside(self) -> str:
        if not self._begun:
            self._held = self._held.lstrip("\n")
            self._begun = bool(self._held)
        thoughts, mark, rest = self._held.partition(_CLOSE)
        if mark:
            self._state, self._held = "after", rest
            return thoughts.rstrip("\n")
        sure = len(thoughts) - _overlap(thoughts)
        self._held = thoughts[sure:]
        return thoughts[:sure]


def _overlap(text: str) -> int:
    """How many characters at the end may be the beginning of the closing mark."""
    return next((n for n in range(min(len(_CLOSE) - 1, len(text)), 0, -1) if _CLOSE.startswith(text[-n:])), 0)

"""Separates a model's thoughts, which it writes between <think> and </think>, from its answer while it streams."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..types import GenerationRequest

_OPEN, _CLOSE = "<think>", "</think>"
_SWITCH = "enable_thinking"
_LEFT_OPEN = re.compile(rf"{_OPEN}(?!(\\n|\s)*{_CLOSE})")  # in a template's source a newline may be an escape


def knows_thoughts(template: str) -> bool:
    """Whether a chat template belongs to a model that thinks."""
    return _SWITCH in template or _OPEN in template or "reasoning_effort" in template


def opens_thoughts(template: str, options: Mapping[str, Any]) -> bool:
    """Whether the template itself opens the thoughts of an answer, judged by its source.

    Args:
        options: the variables that it is given. Without its switch among them it is not known what it does.
    """
    end = template.rpartition("add_generation_prompt")[2]
    known = options.get(_SWITCH) if _SWITCH in end else _CLOSE not in end
    if not known:
        return False
    return _LEFT_OPEN.search(end) is not None


def thought_reader(asked: GenerationRequest, *, thinks: bool, opened: bool = False) -> ThoughtReader | None:
    """A reader that separates thoughts in the answer to a request, or None if its text is not to be changed.

    Thoughts are separated in a chat with a model that thinks, unless the request decides otherwise. A constrained
    answer has none, because the constraint applies from its first token.

    Args:
        thinks: whether the model's chat template supports thoughts.
        opened: whether the prompt that the template makes ends within thoughts.
    """
    chat = asked.messages is not None
    wanted = thinks and chat if asked.separate_thoughts is None else asked.separate_thoughts
    if not wanted or asked.sampling.constraint is not None:
        return None
    if not chat or asked.continue_final_message:
        opened = _left_open(_begun_text(asked))
    return ThoughtReader(opened=opened)


def ends_in_thoughts(prompt: str) -> bool:
    """Whether a rendered prompt has just begun the thoughts of the answer."""
    return prompt.rstrip().endswith(_OPEN)


def _begun_text(asked: GenerationRequest) -> str:
    """The text that the answer continues."""
    return (asked.messages[-1].content if asked.messages else asked.prompt) or ""


def _left_open(text: str) -> bool:
    return text.rfind(_OPEN) > text.rfind(_CLOSE)


class ThoughtReader:
    """Takes the pieces of one answer and returns its thoughts and its text.

    Only thoughts at the beginning of an answer are separated. A possible part of a mark, and empty lines around
    thoughts, are held back until they are certain. So the result does not depend on how the answer is divided into
    pieces.

    Args:
        opened: the prompt has begun the thoughts.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._held = ""
        self._begun = False  # whether there are thoughts already
        self._state = "inside" if opened else "before"  # then "inside", "after" the thoughts, and "text"

    def read(self, piece: str, *, last: bool) -> tuple[str, str]:
        """The thoughts and the text that are certain now; with the last piece, all that was held back."""
        thoughts, text = self.feed(piece)
        if last:
            more, rest = self.end()
            return thoughts + more, text + rest
        return thoughts, text

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
        sure = len(thoughts[: len(thoughts) - _overlap(thoughts)].rstrip("\n"))
        self._held = thoughts[sure:]
        return thoughts[:sure]


def _overlap(text: str) -> int:
    """How many characters at the end may be the beginning of the closing mark."""
    return next((n for n in range(min(len(_CLOSE) - 1, len(text)), 0, -1) if _CLOSE.startswith(text[-n:])), 0)

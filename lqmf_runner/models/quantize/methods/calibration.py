"""Turns a text file into calibration samples: token sequences in the form in which the model will meet them.

The file holds documents separated by lines of five or more `=`. A document that begins with `User:` is a dialogue
and goes through the chat template; all others are plain text. Any other text file is one plain document.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from ....errors import UserInputError

SHIPPED = Path(__file__).with_name("calibration.txt")
MIN_SAMPLE = 32
_SEPARATOR = re.compile(r"^={5,}\s*$", re.MULTILINE)
_TURN = re.compile(r"^(User|Assistant|System):[ \n]", re.MULTILINE)


def read_documents(path: Path) -> list[str]:
    """The documents of a calibration file.

    Raises:
        UserInputError: it cannot be read, is no UTF-8 text, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(
            f"the calibration text {path.name} cannot be read: {error}",
            hint="mode.calibration takes a UTF-8 text file",
        ) from error
    documents = [document.strip() for document in _SEPARATOR.split(text)]
    documents = [document for document in documents if document]
    if not documents:
        raise UserInputError(f"the calibration text {path.name} is empty", hint="leave mode.calibration out")
    return documents


def parse_dialogue(document: str) -> list[dict[str, str]] | None:
    """The messages of a dialogue; None for plain text."""
    if not document.startswith(("User:", "System:")):
        return None
    parts = _TURN.split(document)[1:]
    return [
        {"role": role.lower(), "content": text.strip()}
        for role, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def samples(tokenizer: Any, documents: list[str], *, count: int, length: int) -> list[list[int]]:
    """At most `count` token sequences of at most `length` tokens, dialogues and plain text in turn.

    Documents of a kind follow one another and are cut every `length` tokens, so that most samples are full.

    Raises:
        UserInputError: the text is too short for a single sample.
    """
    template = _template(tokenizer.chat_template)
    streams: dict[bool, list[int]] = {True: [], False: []}
    for document in documents:
        dialogue = _rendered(tokenizer, template, parse_dialogue(document))
        text = document + "\n\n" if dialogue is None else dialogue
        streams[dialogue is not None].extend(tokenizer.encode(text, add_special_tokens=False))
    chunks = [
        [
            stream[i : i + length]
            for i in range(0, len(stream), length)
            if len(stream) - i >= min(MIN_SAMPLE, length)
        ]
        for stream in streams.values()
    ]
    chosen = [chunk[i] for i in range(max(map(len, chunks))) for chunk in chunks if i < len(chunk)]
    if not chosen:
        raise UserInputError(
            "the calibration text is too short", hint="a few thousand words make a sound model"
        )
    return chosen[:count]


def _rendered(tokenizer: Any, template: str | None, messages: list[dict[str, str]] | None) -> str | None:
    """A dialogue in the model's own form; None where it has none or refuses this one, such as a system turn."""
    if template is None or messages is None:
        return None
    try:
        text: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    except TemplateError:
        return None
    return text


def _template(found: str | dict[str, str] | None) -> str | None:
    """The one for dialogues among a model's chat templates: the default, or the only one."""
    if not isinstance(found, dict):
        return found
    return found.get("default") or (next(iter(found.values())) if len(found) == 1 else None)

"""YAML files of a known shape: decision sets and rubrics."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from .errors import UserInputError

T = TypeVar("T")


def read_yaml(path: Path, shape: type[T], *, what: str, setting: str) -> T:
    """The content of a file as an object of the given type.

    Args:
        what: the file is called in errors; `setting` is what names it on the command line.

    Raises:
        UserInputError: it cannot be read, or has another shape.
    """
    hint = f"{setting} takes a YAML file; without it the {what} that ships is used"
    try:
        return msgspec.convert(yaml.safe_load(path.read_text("utf-8")), shape)
    except OSError as error:
        raise UserInputError(f"the {what} {path.name} cannot be read: {error.strerror}", hint=hint) from None
    except (yaml.YAMLError, ValueError) as error:  # msgspec's are ValueErrors, as are those of UTF-8
        reason = " ".join(str(error).split())[:300]
        raise UserInputError(f"the {what} {path.name} is wrong: {reason}", hint=hint) from None

"""Checks that the schemas share. Each raises `UserInputError` with what is valid."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UserInputError

MISSING: Any = "???"  # OmegaConf's mark for a value that must be given


def one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    """Refuse a value that is not among the valid ones."""
    if value not in valid:
        raise UserInputError(f"{name}={value} is not valid", hint=f"choose one of: {', '.join(valid)}")


def within(name: str, value: float, low: float, high: float | None = None) -> None:
    """Refuse a number outside `low` to `high`, both included, NaN among them."""
    if not low <= value <= (float("inf") if high is None else high):
        wanted = f"at least {_plain(low)}" if high is None else f"between {_plain(low)} and {_plain(high)}"
        raise UserInputError(f"{name}={_plain(value)} is out of range", hint=f"it must be {wanted}")


def _plain(number: float) -> str:
    """A number as one types it: a whole one with all its digits."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def positive(name: str, value: float | None) -> None:
    """Refuse a number that is not more than 0; None is a setting that is left open."""
    if value is not None and not value > 0:
        raise UserInputError(f"{name}={value:g} is too small", hint="it must be more than 0")


def at_least(name: str, value: int, low: int) -> None:
    """Refuse a number below `low`."""
    if value < low:
        raise UserInputError(f"{name}={value} is too small", hint=f"it must be at least {low}")


def alias_name(name: str, value: str | None) -> None:
    """Refuse what MLflow takes as no alias, and what would be taken for a number of a version."""
    if value is not None and (
        not re.fullmatch(r"(?!latest\Z|v?\d+\Z)[\w-]+", value, re.ASCII | re.IGNORECASE)
    ):
        raise UserInputError(
            f"{name}={value} is no alias", hint="use letters, digits, - and _; not latest, and no number"
        )

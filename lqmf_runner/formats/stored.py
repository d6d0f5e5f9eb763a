"""Checks of the tensors that a checkpoint stores, shared by its formats."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ModelUnusableError

_NAMED = 3


def named(names: Iterable[str]) -> str:
    """The first few names in order, and the number of further ones."""
    ordered = sorted(names)
    more = len(ordered) - _NAMED
    return ", ".join(ordered[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def refuse_missing(missing: Iterable[str]) -> None:
    """Raises: ModelUnusableError: there are missing tensors; it has the first names and the count."""
    if found := sorted(set(missing)):
        count = "1 tensor is" if len(found) == 1 else f"{len(found)} tensors are"
        raise ModelUnusableError(
            f"{count} missing: {named(found)}", hint="fetch the model's files again, or convert it again"
        )


def refuse_packed(names: Iterable[str], suffixes: tuple[str, ...], settings: str) -> None:
    """Refuse packed weights where nothing says how they are packed.

    Raises:
        ModelUnusableError: a name ends with one of `suffixes`.
    """
    if packed := [name for name in names if name.endswith(suffixes)]:
        raise ModelUnusableError(
            f"{len(packed)} of its tensors are packed ({named(packed)}), but {settings}",
            hint="fetch all of the model's files again, those with its quantization settings included",
        )

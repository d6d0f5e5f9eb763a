"""The origin of a model, and whether its fidelity to a reference is meaningful."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

UNQUANTIZED_BITS = 16


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A model that another one was made from, directly or through others.

    Attributes:
        version: content version of its weights.
        method: what people call its format, "Q4_1"; empty where that is not known.
        bits: nominal bits of its weights; 0 where they are not known.
    """

    name: str
    version: str
    method: str = ""
    bits: float = 0.0


def why_uncounted(
    version: str | None,
    origins: Sequence[Origin],
    reference: str,
    reference_version: str,
    reference_origins: Sequence[Origin],
) -> str | None:
    """Why a model's fidelity is meaningless; None if it is meaningful.

    A reference that was made from the model, or from a sibling of it, has inherited what that model lost. The distance
    between the two is then no measure of the loss.

    Args:
        version, origins: of the model, `origins` with the nearest first.
        reference: name of the reference.
    """
    own = {version, *(origin.version for origin in origins)}
    if not version or reference_version in own:
        return None
    if any(origin.version == version for origin in reference_origins):
        return f"the reference {reference} was made from it"
    between = [origin for origin in reference_origins if origin.version not in own]
    if between and len(between) < len(reference_origins):
        return f"the reference {reference} was made from {between[-1].name}, which has the same origin"
    return None


def grid_of(reference: str, origins: Sequence[Origin]) -> str | None:
    """A sentence about a reference whose weights were quantized once; None if they were not, as far as is known."""
    quantized = next((origin for origin in origins if 0 < origin.bits < UNQUANTIZED_BITS), None)
    if quantized is None:
        return None
    return (
        f"The reference {reference} was made from {quantized.name} ({quantized.method}). Its weights lie on a grid of "
        f"{quantized.bits:g} bits already, so fidelity does not include what was lost before."
    )

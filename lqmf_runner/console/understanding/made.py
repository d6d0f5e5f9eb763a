"""What a step leaves to talk about: "it" is the model that was quantized, not the one that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config import QuantizeMode
from ...errors import UserInputError
from ...formats import find_format
from . import steps

# The GGUF type of so many bits, if no type is named.
_TYPES = {None: "Q4_0", 4: "Q4_0", 8: "Q8_0", 2: "Q2_K", 3: "Q3_K_M", 5: "Q5_K_M", 6: "Q6_K", 16: "F16"}


def quantize_settings(said: Mapping[str, Any]) -> dict[str, Any]:
    """The method, with the type or the bits, that the arguments of a step ask for.

    Raises:
        UserInputError: there is no GGUF type of so many bits.
    """
    method, bits = said.get("method", "bnb"), said.get("bits")
    format = find_format(method)
    if format is not None and format.single_file:
        if not said.get("type") and bits not in _TYPES:
            there = ", ".join(str(number) for number in _TYPES if number)
            raise UserInputError(
                f"there is no GGUF type of {bits} bits", hint=f"there are types of {there} bits"
            )
        return {"method": method, "type": said.get("type") or _TYPES[bits]}
    return {"method": method, **({"bits": bits} if format is not None and bits else {})}


def models_after(intent: str, arguments: Mapping[str, Any]) -> list[str]:
    """The models that "it" stands for after a step; none if it makes one whose name cannot be known before."""
    models = [str(name) for name in arguments.get("models") or [arguments.get("model")] if name]
    return _made(models, arguments) if intent == steps.QUANTIZE else models


def _made(models: list[str], arguments: Mapping[str, Any]) -> list[str]:
    from ...models.quantize import output_name

    try:
        return [output_name(name, QuantizeMode(**quantize_settings(arguments))) for name in models]
    except UserInputError:
        return []  # the step itself says what is wrong

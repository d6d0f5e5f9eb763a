"""Method names and where they live."""

from __future__ import annotations

from importlib import import_module

from ....errors import UserInputError
from ..base import QuantizationMethod

METHODS = {
    "bnb": "bnb:BnbMethod",
    "gptq": "gptq:GptqMethod",
    "gguf": "gguf:GgufMethod",
    "bf16": "bf16:Bf16Method",
}


def get_method(name: str) -> QuantizationMethod:
    """The method of that name.

    Raises:
        UserInputError: there is none; the hint lists those there are.
    """
    if name not in METHODS:
        raise UserInputError(f"mode.method={name} is not valid", hint=f"choose one of: {', '.join(METHODS)}")
    module, cls = METHODS[name].split(":")
    method: QuantizationMethod = getattr(import_module(f".{module}", __package__), cls)()
    return method

"""The formats that models come in. A format is one file here, one entry in `FORMATS`, and one `conf/backend/*.yaml`.

Settings, recognition, runners, memory estimates, package lists and install hints all derive from `FORMATS`. Other
packages ask a `Format` what it can do and never compare its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import BackendConfig
from ..errors import UserInputError
from .base import Format, Recognised, load_target
from .bnb import BNB
from .gguf import GGUF
from .gptq import GPTQ
from .openai import OPENAI
from .pool import POOL
from .sglang import SGLANG
from .transformers import TRANSFORMERS
from .vllm import VLLM

__all__ = [
    "AUTO",
    "FORMATS",
    "Format",
    "backend_schemas",
    "check_backend",
    "find_format",
    "format_of_file",
    "get_format",
    "is_endpoint",
    "is_remote",
    "labels",
    "load_target",
    "numeric_options",
    "overhead_mb",
    "packages",
    "recognise",
    "runs_here",
]

AUTO = "auto"
"""The value of `backend.format` that leaves the format to the model's files."""

FORMATS: tuple[Format, ...] = (GGUF, BNB, GPTQ, TRANSFORMERS, OPENAI, POOL, VLLM, SGLANG)


def find_format(name: str) -> Format | None:
    """The format of that name; None if there is none."""
    return next((format for format in FORMATS if format.name == name), None)


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UserInputError: there is none; the hint lists those there are.
    """
    if format := find_format(name):
        return format
    raise UserInputError(
        f"backend.format={name} is not valid",
        hint=f"choose one of: {', '.join([AUTO, *(format.name for format in FORMATS)])}",
    )


def check_backend(backend: BackendConfig) -> None:
    """Check the name of the backend's format, which its own dataclass cannot know.

    Raises:
        UserInputError: there is no such format.
    """
    if backend.format != AUTO:
        get_format(backend.format)


def backend_schemas() -> dict[str, type[BackendConfig]]:
    """The dataclass of every `backend`, by name, `auto` included."""
    return {AUTO: BackendConfig, **{format.name: format.backend for format in FORMATS}}


def is_remote(name: str) -> bool:
    """Whether models of the format run behind an endpoint. A format that is not known is local."""
    format = find_format(name)
    return format is not None and format.remote


def is_endpoint(name: str) -> bool:
    """Whether models of the format run behind an endpoint that this program does not start."""
    format = find_format(name)
    return format is not None and format.remote and format.program is None


def overhead_mb(name: str) -> float:
    """Memory that a worker needs beside the weights, in MB of 10^6 bytes; see `Format`."""
    format = find_format(name)
    return Format.overhead_mb if format is None else format.overhead_mb


def packages() -> tuple[str, ...]:
    """The packages of all formats whose versions decide a result, each once."""
    return tuple(dict.fromkeys(package for format in FORMATS for package in format.packages))


def numeric_options(name: str) -> tuple[str, ...]:
    """The settings that change the logits of models of the format; see `Format`."""
    format = find_format(name)
    return Format.numeric_options if format is None else format.numeric_options


def runs_here() -> tuple[Format, ...]:
    """The formats whose models run on this machine."""
    return tuple(format for format in FORMATS if not format.remote)


def labels() -> str:
    """What people call the formats whose models run here, for an error's hint."""
    *others, last = (format.label for format in runs_here())
    return f"{', '.join(others)} and {last}"


def recognise(quantization: Mapping[str, Any] | None) -> tuple[Format, Recognised] | None:
    """The first format that recognises a checkpoint by its `quantization_config`; None if none does.

    Raises:
        ModelUnusableError: the settings are damaged.
    """
    for format in FORMATS:
        if format.recognise is not None and (recognised := format.recognise(quantization)) is not None:
            return format, recognised
    return None


def format_of_file(head: bytes) -> Format | None:
    """The format whose files begin with these bytes; None if there is none."""
    return next((format for format in FORMATS if format.magic and head.startswith(format.magic)), None)

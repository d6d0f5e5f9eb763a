"""The formats that models come in. A format is one file here, one entry in `FORMATS`, and one `conf/backend/*.yaml`.

Settings, recognition, runners, memory estimates, package lists and install hints all derive from `FORMATS`. Other
packages ask a `Format` what it can do and never compare its name.
"""

from __future__ import annotations

from ..config import BackendConfig
from ..errors import UserInputError
from .base import Format, load_target
from .bnb import BNB
from .gguf import GGUF
from .gptq import GPTQ
from .openai import OPENAI
from .transformers import TRANSFORMERS

__all__ = [
    "AUTO",
    "FORMATS",
    "Format",
    "backend_schemas",
    "check_backend",
    "find_format",
    "get_format",
    "is_remote",
    "load_target",
    "overhead_mb",
    "packages",
]

AUTO = "auto"
"""The value of `backend.format` that leaves the format to the model's files."""

FORMATS: tuple[Format, ...] = (GGUF, BNB, GPTQ, TRANSFORMERS, OPENAI)


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


def overhead_mb(name: str) -> float:
    """Memory that a worker needs beside the weights, in MB of 10^6 bytes; see `Format`."""
    format = find_format(name)
    return Format.overhead_mb if format is None else format.overhead_mb


def packages() -> tuple[str, ...]:
    """The packages of all formats whose versions decide a result, each once."""
    return tuple(dict.fromkeys(package for format in FORMATS for package in format.packages))

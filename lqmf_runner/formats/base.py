"""`Format`: all properties of one format, except the code that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, Protocol

from ..config import BackendConfig
from ..install import install_line
from .program import Program


class Tensor(Protocol):
    """The properties of a stored tensor before it is read."""

    @property
    def elements(self) -> int:
        """Product of its stored shape."""

    @property
    def nbytes(self) -> int:
        """Bytes it takes in its file."""

    @property
    def dtype(self) -> str:
        """Its element type, as safetensors spells it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its stored shape."""


@dataclass(frozen=True)
class Recognised:
    """The quantization of a checkpoint.

    Attributes:
        method: what people call it, such as "NF4"; empty if the element type of the tensors says it.
        bits: nominal bits of a quantized weight; 0 if the element type of the tensors says it.
    """

    method: str
    bits: float


Recognise = Callable[[Mapping[str, Any] | None], Recognised | None]
"""Takes the `quantization_config` of a checkpoint's config.json, None if it has none. Returns None if the format is
another one, and raises `ModelUnusableError` if the settings are damaged."""
CountParameters = Callable[[Mapping[str, Tensor], float], int]
"""Takes the stored tensors by name and the nominal bits, and returns the number of weights before quantization."""

CheckStored = Callable[[Mapping[str, Tensor], Mapping[str, Any], Callable[[str], bytes]], None]
"""Takes the stored tensors by name, the quantization's settings, and what reads the bytes of a tensor by its name.
Raises `ModelUnusableError` if the tensors are not what the settings say."""


def count_elements(tensors: Mapping[str, Tensor], bits: float) -> int:
    """The parameters of a checkpoint whose tensors are stored one element a weight."""
    return sum(tensor.elements for tensor in tensors.values())


@dataclass(frozen=True)
class Format:
    """One format of models. A format is local and has a `runner`, or remote and has a `client`.

    Attributes:
        name: the value of `backend`, of `backend.format` and of `format` in results.
        label: what people call it.
        backend: the dataclass of its settings; `conf/backend/<name>.yaml` mirrors it.
        runner: "module:Class" of its `ModelRunner`, which the worker process imports.
        embedder: "module:Class" that the worker loads instead of the runner if the model is made for embeddings.
        client: "module:Class" of its `EngineClient`, whose `connect(spec)` connects to an endpoint.
        program: how the client starts the server of the model itself; None if that runs elsewhere.
        recognise: tells whether a Hugging Face folder is of this format; None for a format that is no such folder.
        count_parameters: counts the weights of a Hugging Face folder of this format.
        check_stored: refuses tensors that are incomplete or not what the settings say; see `CheckStored`.
        magic: first bytes of the file, for a format that is a single file.
        reader: "module:function" that takes such a file's path and a name, and returns its `FoundModel`.
        unquantized: its weights are plain floats.
        quantization_source: `mode=quantize` can start from it.
        shown: how reports name a model; `{method}` is its method.
        numeric_options: the settings of `backend` that change the logits, in the order of a reference's key.
        overhead_mb: memory a worker needs beside the weights: runtime, KV cache and work space, in MB of 10^6 bytes.
        packages: the packages whose versions decide a result, as their distributions are named.
        extra: the optional dependencies of `lqmf-runner` that it needs; empty if it needs none.
    """

    name: str
    label: str
    backend: type[BackendConfig]
    runner: str = ""
    embedder: str = ""
    client: str = ""
    program: Program | None = None
    recognise: Recognise | None = None
    count_parameters: CountParameters = count_elements
    check_stored: CheckStored | None = None
    magic: bytes = b""
    reader: str = ""
    unquantized: bool = False
    quantization_source: bool = False
    shown: str = "{method}"
    numeric_options: tuple[str, ...] = ("device",)
    overhead_mb: float = 700.0
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def remote(self) -> bool:
        """Whether an endpoint elsewhere runs the model."""
        return bool(self.client)

    @property
    def single_file(self) -> bool:
        """Whether a model is one file with weights, vocabulary and chat template, instead of a folder."""
        return bool(self.magic)

    @property
    def quantizes_on_load(self) -> bool:
        """Whether an unquantized checkpoint can be quantized while it loads."""
        return any(field.name == "quantize_on_load" for field in fields(self.backend))

    @property
    def install(self) -> str:
        """The command that installs what it needs."""
        return install_line(self.extra)


def load_target(target: str) -> Any:
    """Import what "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)

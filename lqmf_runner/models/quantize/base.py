"""The interface of a quantization method, and the types that the parent and the child process share.

The parent never imports torch: it describes the work as a `Job`, and a child process does it. A method's `make`
and `logits` run in such a child, everything else in the parent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ...config import QuantizeMode
from ...results.lineage import Origin
from ..found import FoundModel

if TYPE_CHECKING:
    import numpy as np

Report = Callable[[str, int, int], None]
"""Called with the stage's name, steps done, and steps in all (0 when that is not known)."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work for a child process.

    Attributes:
        task: "make" writes the model to `out` and reference logits to `scratch`; "prove" reloads it and compares.
        source: the unquantized folder or the GGUF file; `source_format` is "transformers" or "gguf".
        scratch: a folder for anything that is not part of the result.
        calibration: a text file of the user's; null takes the one that ships.
        threads: cores to use.
        origins: what the result says that it was made from.
    """

    task: str
    method: str
    parameters: dict[str, Any]
    source: str
    source_format: str
    out: str
    scratch: str
    threads: int
    calibration: str | None = None
    origins: list[Origin] = []


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """How the reloaded model compares with the reference, over a fixed token sequence.

    Attributes:
        relative_rms: root mean square of the logits' difference over that of the centred reference logits.
        source_kld, source_top1_agreement: against the source model, in nats; None where that was not measured.
    """

    tokens: int
    max_abs_diff: float
    relative_rms: float
    kld: float
    top1_agreement: float
    source_kld: float | None = None
    source_top1_agreement: float | None = None


class QuantizationMethod(ABC):
    """One way to make a model smaller.

    Attributes:
        name: the value of `mode.method`.
        compared_with: what the proof's reference logits come from: "memory", the quantized model before it was
            reloaded, or "source", the model it was made from.
        max_relative_rms: the proof fails above this.
    """

    name: ClassVar[str]
    compared_with: ClassVar[str] = "memory"
    max_relative_rms: ClassVar[float] = 0.02

    @abstractmethod
    def parameters(self, mode: QuantizeMode) -> dict[str, Any]:
        """The settings that make one result differ from another.

        Raises:
            UserInputError: a setting is not possible.
        """

    @abstractmethod
    def suffix(self, parameters: dict[str, Any]) -> str:
        """What follows the model's name in the name of the result's folder."""

    @abstractmethod
    def disk_bytes(self, source: FoundModel, parameters: dict[str, Any]) -> int:
        """About how much disk the work needs at its peak."""

    def check(self, source: FoundModel, parameters: dict[str, Any]) -> None:
        """Refuse early what cannot work.

        Raises:
            LqmfError: something that the work needs is missing.
        """
        return

    @abstractmethod
    def make(self, job: Job, report: Report) -> np.ndarray:
        """Write the result to `job.out` and return reference logits, (tokens, vocabulary) in float32."""

    @abstractmethod
    def logits(self, folder: Path, parameters: dict[str, Any]) -> np.ndarray:
        """Load the result and return its logits over the fixed tokens, (tokens, vocabulary) in float32."""

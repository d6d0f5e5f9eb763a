"""The GPUs of a model, planned from their free memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .....nvml import GpuMemory

_WORK_SPACE_MB = 1500.0  # on each GPU: runtime, activations
_CACHE_SHARE = 0.15  # of the weights: a KV cache of ordinary length


@dataclass(frozen=True)
class GpuSplit:
    """The share of a model on each GPU, 0 to 1. The part that is missing from 1 does not fit.

    Attributes:
        room_mb: of weights and KV cache, on each GPU.
    """

    shares: tuple[float, ...]
    room_mb: tuple[float, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """The GPUs that hold a part of it."""
        return tuple(i for i, share in enumerate(self.shares) if share > 0)

    @property
    def fits(self) -> bool:
        """Whether all of it fits."""
        return sum(self.shares) > 0.999

    def describe(self, gpus: Sequence[GpuMemory]) -> str:
        """The plan as a sentence."""
        parts = [
            f"{self.shares[i]:.0%} on GPU {i} ({gpus[i].name}, {gpus[i].free_mb:,.0f} MB free)"
            for i in self.used
        ]
        rest = "" if self.fits else "; the rest does not fit"
        return f"planned from free memory: {', '.join(parts) or 'nothing on the GPUs'}{rest}"


def plan_split(weights_mb: float, gpus: Sequence[GpuMemory]) -> GpuSplit:
    """One GPU if it holds the whole model, because each border between GPUs costs time; otherwise all, by their free
    memory.

    Args:
        weights_mb: of the model, in MB of 10^6 bytes.
    """
    room = tuple(max(0.0, gpu.free_mb - _WORK_SPACE_MB) for gpu in gpus)
    needed = weights_mb * (1 + _CACHE_SHARE)
    largest = max(range(len(room)), key=room.__getitem__)
    if room[largest] >= needed:
        return GpuSplit(tuple(float(i == largest) for i in range(len(room))), room)
    total = sum(room)
    fitting = min(1.0, total / needed)
    return GpuSplit(tuple(fitting * r / total if total else 0.0 for r in room), room)

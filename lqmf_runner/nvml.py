"""NVIDIA's management library, where there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any


def open_nvml() -> tuple[Any, list[Any]]:
    """NVML and the handles of the GPUs; none where there is no driver or no `nvidia-ml-py`."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, or no permission: there is nothing to read
        return None, []


@dataclass(frozen=True)
class GpuMemory:
    """A GPU that programs of this environment see, and its memory in MB of 10^6 bytes."""

    name: str
    free_mb: float
    total_mb: float

    def less(self, mb: float) -> GpuMemory:
        """The same GPU once so much more of it is taken."""
        return replace(self, free_mb=max(self.free_mb - mb, 0.0))


def visible_gpus(visible: str | None = None) -> list[GpuMemory]:
    """The GPUs that CUDA shows, in its order where CUDA_DEVICE_ORDER is PCI_BUS_ID, which workers are given.

    Args:
        visible: CUDA_VISIBLE_DEVICES; taken from the environment if it is None.

    Returns:
        Nothing where there is no GPU, or where parts of GPUs (MIG) are chosen, whose memory is counted otherwise.
    """
    nvml, devices = open_nvml()
    if not devices:
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    try:
        by_name = {str(i): device for i, device in enumerate(devices)}
        by_name |= {_text(nvml.nvmlDeviceGetUUID(device)): device for device in devices}
        shown = devices if chosen is None else []
        for word in (chosen or "").split(","):
            matches = [device for name, device in by_name.items() if _names(word.strip(), name)]
            if not matches:
                break  # CUDA too passes over what follows a device that is not there
            shown = [*shown, matches[0]]
        found = [(nvml.nvmlDeviceGetName(device), nvml.nvmlDeviceGetMemoryInfo(device)) for device in shown]
    except nvml.NVMLError:
        return []
    return [GpuMemory(_text(name), memory.free / 1e6, memory.total / 1e6) for name, memory in found]


def _names(word: str, name: str) -> bool:
    """Whether a word of CUDA_VISIBLE_DEVICES, an index or the beginning of a UUID, means this device."""
    return word == name or (word.startswith("GPU-") and name.startswith(word))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

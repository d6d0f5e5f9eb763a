"""NVIDIA's management library, where there is one."""

from __future__ import annotations

from typing import Any


def open_nvml() -> tuple[Any, list[Any]]:
    """NVML and the handles of the GPUs; none where there is no driver or no `nvidia-ml-py`."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, or no permission: there is nothing to read
        return None, []

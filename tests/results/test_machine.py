"""What is said of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lqmf_runner.results import machine
from lqmf_runner.results.machine import describe_system, find_gpus, git_commit, memory_bandwidth_gb_s
from lqmf_runner.results.schema import Gpu


def test_the_machine_is_described_without_heavy_imports() -> None:
    code = (
        "import sys; from lqmf_runner.results.machine import describe_system; describe_system(measure_bandwidth=False);"
        "print([m for m in ('numpy', 'torch', 'mlflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_description_is_plausible() -> None:
    system = describe_system(measure_bandwidth=False)
    assert system.cpu
    assert system.cores == len(os.sched_getaffinity(0))
    assert system.ram_mb > 100
    assert "msgspec" not in system.packages
    assert "numpy" in system.packages
    assert system.memory_bandwidth_gb_s is None


def test_memory_bandwidth_is_measured_once() -> None:
    bandwidth = memory_bandwidth_gb_s()
    assert bandwidth is not None
    assert 0.5 < bandwidth < 5000
    assert memory_bandwidth_gb_s() == bandwidth


def fake_nvml(driver: Callable[[], bytes]) -> SimpleNamespace:
    """NVML as far as it is asked for the name and the memory of a GPU."""
    return SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlSystemGetDriverVersion=driver,
        nvmlDeviceGetName=lambda device: f"GPU {device}",
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(total=80e9),
    )


def lost_driver() -> bytes:
    raise RuntimeError("the driver is gone")


@pytest.mark.parametrize(
    ("driver", "found"), [(lambda: b"570.1", [Gpu("GPU a", 80_000.0, "570.1")]), (lost_driver, [])]
)
def test_gpus_are_named_by_nvml_and_missing_where_it_fails(
    driver: Callable[[], bytes], found: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "open_nvml", lambda: (fake_nvml(driver), ["a"]))
    assert find_gpus() == found


def test_no_gpu_is_no_error() -> None:
    assert isinstance(find_gpus(), list)


def test_a_folder_that_is_no_repository_has_no_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None

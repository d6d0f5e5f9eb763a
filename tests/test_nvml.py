"""Which GPUs a program sees, from a driver that is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lqmf_runner import nvml
from lqmf_runner.nvml import visible_gpus


class Driver:
    """Three GPUs of 24, 24 and 80 GB."""

    NVMLError = RuntimeError
    free = (20e9, 10e9, 70e9)
    total = (24e9, 24e9, 80e9)

    def nvmlDeviceGetUUID(self, device: int) -> bytes:  # noqa: N802
        return f"GPU-{device}0000000-aaaa".encode()

    def nvmlDeviceGetName(self, device: int) -> str:  # noqa: N802
        return f"card {device}"

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(free=self.free[device], total=self.total[device])


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "open_nvml", lambda: (Driver(), [0, 1, 2]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "cards"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-1", [1]),
        ("GPU-20000000-aaaa,0", [2, 0]),
        ("0,7,1", [0]),
        ("", []),
        ("-1", []),
        ("MIG-5", []),
    ],
)
@pytest.mark.usefixtures("driver")
def test_devices_are_those_that_cuda_shows_in_its_order(visible: str | None, cards: list[int]) -> None:
    gpus = visible_gpus(visible)
    assert [gpu.name for gpu in gpus] == [f"card {card}" for card in cards]
    assert [gpu.free_mb for gpu in gpus] == [Driver.free[card] / 1e6 for card in cards]


@pytest.mark.usefixtures("driver")
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.name for gpu in visible_gpus()] == ["card 1"]


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "open_nvml", lambda: (None, []))
    assert visible_gpus() == []

"""Models of other contents have other versions."""

from __future__ import annotations

from pathlib import Path

from lqmf_runner.models import content_version


def checkpoint(folder: Path, weights: bytes, name: str = "pytorch_model.bin") -> str:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "opt"}')
    (folder / name).write_bytes(weights)
    return content_version(folder)


def test_pickle_weights_count_where_there_are_no_others(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", bytes(100_000))
    assert checkpoint(tmp_path / "same", bytes(100_000)) == one
    assert checkpoint(tmp_path / "trained-on", bytes(99_999) + b"1") != one
    assert checkpoint(tmp_path / "longer", bytes(100_001)) != one
    assert checkpoint(tmp_path / "renamed", bytes(100_000), "pytorch_model-00001-of-00001.bin") != one

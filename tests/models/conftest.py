from __future__ import annotations

from pathlib import Path

import pytest

from ..support.models.tiny import make_checkpoint, make_gguf


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unquantized tiny checkpoint; do not write to it."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GGUF; do not write to it."""
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")

"""What is held while an alias is moved, and what is not."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError
from lqmf_runner.tracking.store_lock import locked_registry

ONE, OTHER = (TrackingConfig(uri=f"http://user:s3cret@mlflow:{port}") for port in (5000, 5001))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder as another process would. Raises BlockingIOError if somebody holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def test_the_registry_of_a_server_is_held_and_nothing_else(temporary: Path) -> None:
    with held(temporary), locked_registry(ONE), locked_registry(OTHER):
        files = sorted(temporary.iterdir())
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
        assert not [file for file in files if "s3cret" in file.name]
        for file in files:
            with pytest.raises(BlockingIOError), held(file):
                pass
    for file in files:
        with held(file):
            pass


def test_a_lock_file_that_leads_elsewhere_is_refused(temporary: Path) -> None:
    with locked_registry(ONE):
        (file,) = temporary.iterdir()
    file.unlink()
    file.symlink_to(temporary / "elsewhere")
    with pytest.raises(TrackingError, match="registry cannot be locked") as error, locked_registry(ONE):
        pass
    assert file.name in error.value.message
    assert not (temporary / "elsewhere").exists()

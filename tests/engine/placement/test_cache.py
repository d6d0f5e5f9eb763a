"""Copies of models on a node: the longest unused go when they take too much, and none that is used or arrives."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from lqmf_runner.engine.placement.cache import Copy, make_room

SIZE = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three copies; "a" was unused longest, then "b"."""
    for age, key in enumerate(("c", "b", "a")):
        keep(tmp_path, key, used_at=1000.0 - age)
    return tmp_path


def keep(root: Path, key: str, *, used_at: float) -> None:
    copy = Copy(root, key)
    copy.folder.mkdir()
    (copy.folder / "weights").write_bytes(b"x" * SIZE)
    os.close(copy.use())
    os.utime(root / f".{key}.used", (used_at, used_at))


def kept(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir() if entry.is_dir()}


@pytest.mark.parametrize(
    ("limit", "left"), [(4 * SIZE, {"a", "b", "c"}), (3 * SIZE, {"b", "c"}), (2 * SIZE, {"c"}), (SIZE, set())]
)
def test_the_longest_unused_go_until_the_rest_fits_beside_what_comes(root: Path, limit: int, left: set[str]):
    make_room(root, "new", SIZE, SIZE, limit)
    assert kept(root) == left


def test_what_comes_stays_however_large_it_is(root: Path):
    make_room(root, "a", 100 * SIZE, 0, SIZE)
    assert kept(root) == {"a"}


def test_a_copy_that_is_used_stays_until_nobody_uses_it(root: Path):
    users = [Copy(root, "a").use() for _ in range(2)]
    for user in users:
        make_room(root, "new", SIZE, SIZE, 0)
        assert kept(root) == {"a"}
        os.close(user)
    make_room(root, "new", SIZE, SIZE, 0)
    assert kept(root) == set()


def test_a_copy_that_was_just_used_is_not_the_longest_unused(root: Path):
    os.close(Copy(root, "a").use())
    make_room(root, "new", SIZE, SIZE, 3 * SIZE)
    assert kept(root) == {"a", "c"}


def test_files_that_arrive_stay_and_those_of_a_delivery_that_broke_off_go(root: Path):
    for key in ("arriving", "broken"):
        (root / f".{key}").mkdir()
        (root / f".{key}" / "weights.part").write_bytes(b"x" * SIZE)
    lock = Copy(root, "arriving").lock_arrival()
    assert lock is not None
    make_room(root, "new", SIZE, SIZE, 0)
    assert kept(root) == {".arriving"}
    os.close(lock)


def test_a_disk_without_room_gets_it_from_the_longest_unused(root: Path, monkeypatch: pytest.MonkeyPatch):
    class Usage:
        def __init__(self) -> None:
            self.free = 10 if "a" in kept(root) else 5 * SIZE

    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage())
    make_room(root, "new", 2 * SIZE, 2 * SIZE, 100 * SIZE)
    assert kept(root) == {"b", "c"}


def test_a_copy_that_is_deleted_leaves_no_file(root: Path):
    make_room(root, "new", SIZE, SIZE, 0)
    assert list(root.iterdir()) == []


def test_a_lock_whose_copy_is_deleted_meanwhile_is_that_of_the_next_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    real = fcntl.flock

    def flock(descriptor: int, kind: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        assert Copy(root, "a").delete()
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = Copy(root, "a").lock_arrival()
    assert lock is not None
    assert Copy(root, "a").lock_arrival() is None
    os.close(lock)

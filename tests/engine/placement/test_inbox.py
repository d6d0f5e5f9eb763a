"""A model's files on their way into a node's cache: whole or not at all, once, and what the disk refuses is said."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.engine.placement.cache import cache_folder
from lqmf_runner.engine.placement.inbox import Inbox
from lqmf_runner.engine.placement.shipment import Shipment, shipment_of
from lqmf_runner.errors import DoesNotFitError, EngineLostError, ModelUnusableError
from lqmf_runner.models.version import content_version

from ...support.models.tiny import make_checkpoint, make_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sent") / "model")


def opened(shipment: Shipment) -> tuple[Inbox, dict[int, int]]:
    """An inbox, and how many bytes are there of each file that is not whole."""
    inbox = Inbox(shipment, "n1", 1e12)
    arrived = inbox.open()
    assert arrived is not None
    return inbox, dict(arrived.missing)


def deliver(source: Path, shipment: Shipment) -> str:
    """As the front does it, in pieces of a few bytes."""
    inbox, missing = opened(shipment)
    for index, there in missing.items():
        data = (source / shipment.files[index].name).read_bytes()
        for begin in range(there, len(data), 5000):
            inbox.write(index, data[begin : begin + 5000])
        inbox.finish(index, hashlib.sha256(data).hexdigest())
    return inbox.close()


def test_a_folder_arrives_whole_and_only_this_user_can_read_it(folder: Path, cache: Path) -> None:
    shipment = shipment_of("m", str(folder))
    there = Path(deliver(folder, shipment))
    assert content_version(there) == content_version(folder)
    assert {f.name for f in there.iterdir()} == {f.name for f in folder.iterdir()}
    assert cache.stat().st_mode & 0o777 == 0o700
    arrived = Inbox(shipment, "n1", 1e12).open()
    assert arrived is not None
    assert arrived.path == str(there)


def test_a_single_file_arrives_under_its_name(tmp_path: Path) -> None:
    file = make_gguf(tmp_path / "tiny.gguf")
    there = Path(deliver(tmp_path, shipment_of("m", str(file))))
    assert there.name == "tiny.gguf"
    assert there.read_bytes() == file.read_bytes()


def test_only_what_is_loaded_is_sent(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    (more / ".git").mkdir()
    (more / "checkpoint-5").mkdir()
    for name in (".hidden", "pytorch_model.bin", "optimizer.pt", "other.gguf"):
        (more / name).write_bytes(b"x")
    assert shipment_of("m", str(more)) == shipment_of("m", str(folder))
    (more / "chat_template.jinja").write_text("{{ messages }}")
    assert shipment_of("m", str(more)).key != shipment_of("m", str(folder)).key


def test_what_has_arrived_is_not_sent_again_after_a_break(folder: Path) -> None:
    shipment = shipment_of("m", str(folder))
    inbox, missing = opened(shipment)
    assert missing == dict.fromkeys(range(len(shipment.files)), 0)
    last = len(shipment.files) - 1
    first, weights = ((folder / shipment.files[i].name).read_bytes() for i in (0, last))
    inbox.write(0, first)
    inbox.finish(0, hashlib.sha256(first).hexdigest())
    inbox.write(last, weights[:1000])
    inbox.write(1, (folder / shipment.files[1].name).read_bytes())  # all of it, but nobody has checked it
    inbox.leave()  # as the end of its process does
    inbox, missing = opened(shipment)
    assert 0 not in missing
    assert (missing[1], missing[last]) == (shipment.files[1].size, 1000)
    inbox.leave()
    assert content_version(deliver(folder, shipment)) == shipment.version


def test_one_process_takes_the_files_and_others_wait(folder: Path) -> None:
    shipment = shipment_of("m", str(folder))
    first, _ = opened(shipment)
    second = Inbox(shipment, "n1", 1e12)
    assert second.open() is None
    first.leave()
    assert second.open() is not None


def test_bytes_that_were_changed_on_the_way_are_not_kept(folder: Path) -> None:
    shipment = shipment_of("m", str(folder))
    inbox, _ = opened(shipment)
    data = (folder / shipment.files[0].name).read_bytes()
    inbox.write(0, b"!" + data[1:])
    with pytest.raises(EngineLostError, match=r"has not arrived at node n1 as it was sent"):
        inbox.finish(0, hashlib.sha256(data).hexdigest())
    _, missing = opened(shipment)
    assert missing[0] == 0


def test_files_that_change_while_they_are_sent_are_not_kept(folder: Path, tmp_path: Path) -> None:
    changing = tmp_path / "changing"
    shutil.copytree(folder, changing)
    shipment = shipment_of("m", str(changing))
    weights = changing / shipment.files[-1].name
    with weights.open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\1" * 8)
    with pytest.raises(ModelUnusableError, match="have changed while they were sent"):
        deliver(changing, shipment)
    assert not [entry for entry in cache_folder().iterdir() if entry.is_dir()]


def test_a_copy_that_was_damaged_is_sent_again(folder: Path) -> None:
    shipment = shipment_of("m", str(folder))
    there = Path(deliver(folder, shipment))
    (there / "config.json").write_text("{}")
    assert deliver(folder, shipment) == str(there)
    assert content_version(there) == shipment.version


def test_a_disk_without_room_is_said_before_anything_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage)
    shipment = shipment_of("m", str(folder))
    with pytest.raises(
        DoesNotFitError, match=r"'m' need \d+ MB more on the disk of node n1, which has 0 MB left"
    ):
        Inbox(shipment, "n1", 1e12).open()


def test_a_disk_that_fills_up_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipment = shipment_of("m", str(folder))
    inbox, _ = opened(shipment)
    monkeypatch.setattr(inbox, "_part", lambda index: Path("/dev/full"))
    with pytest.raises(DoesNotFitError, match="no room left") as caught:
        inbox.write(0, b"x" * 100_000)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert not [entry for entry in cache_folder().iterdir() if entry.is_dir()]
    assert Inbox(shipment, "n1", 1e12).open() is not None  # nobody holds it


def test_a_cache_that_cannot_be_written_is_said(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineLostError, match="node n1 cannot keep the files of 'm'") as caught:
        Inbox(shipment_of("m", str(folder)), "n1", 1e12).open()
    assert "XDG_CACHE_HOME" in caught.value.hint

"""The reference's distributions on disk: found again, never half, and never for another model or text."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lqmf_runner.errors import LqmfError, UserInputError
from lqmf_runner.evaluation.fidelity.store import ReferenceKey, ReferenceRecord, ReferenceStore
from lqmf_runner.evaluation.fidelity.windows import PositionScores

ROOT = Path(__file__).resolve().parents[3]
KEY = ReferenceKey(
    model="v1", tokenizer="k1", settings={"dtype": "float32"}, text="t1", max_tokens=16, size=8, first=4
)
RECORD = ReferenceRecord(
    key=KEY, name="m", method="bfloat16", dtype="float32", n_vocab=10, chat_template=True
)
SCORES = PositionScores(np.arange(8.0).reshape(2, 4), np.zeros((2, 4), np.int32))


def write(store: ReferenceStore, key: ReferenceKey = KEY) -> None:
    with store.draft(key) as draft:
        draft.allocate(2, 10)
        draft.finish(msgspec.structs.replace(RECORD, key=key), list(range(16)), SCORES)


def test_an_entry_is_found_again_under_its_own_key_only(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "cache")
    assert store.find(KEY) is None
    write(store)
    found = store.find(KEY)
    assert found is not None
    assert found.record == RECORD
    assert found.windows == [list(range(8)), list(range(8, 16))]
    assert found.scores.nll.tolist() == SCORES.nll.tolist()
    others = (
        {"model": "v2"},
        {"text": "t2"},
        {"settings": {"dtype": "bfloat16"}},
        {"max_tokens": 24},
        {"first": 3},
    )
    for change in others:
        assert store.find(msgspec.structs.replace(KEY, **change)) is None


@pytest.mark.parametrize("name", ["rows.bin", "scores.npz", "reference.json"])
def test_a_damaged_entry_is_not_used_and_is_replaced(tmp_path: Path, name: str) -> None:
    store = ReferenceStore(tmp_path)
    write(store)
    path = tmp_path / KEY.digest / name
    path.write_bytes(path.read_bytes()[:-3])
    assert store.find(KEY) is None
    write(store)
    assert store.find(KEY) is not None


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)

    def fail() -> None:
        with store.draft(KEY) as draft:
            draft.allocate(2, 10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_numbers(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    with pytest.raises(LqmfError, match=r"take [\d,]+ MB, [\d,]+ MB are free"), store.draft(KEY) as draft:
        draft.allocate(10**9, 10**6)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserInputError, match="cannot be written"),
        ReferenceStore(tmp_path / "file").draft(KEY),
    ):
        pass


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from lqmf_runner.evaluation.fidelity.windows import WindowProtocol, record_reference
from lqmf_runner.evaluation.fidelity.store import ReferenceStore
from tests.support.engine.bigram import BigramEngine, table
from tests.evaluation.fidelity.test_store import KEY

async def main():
    with ReferenceStore(Path(sys.argv[1])).draft(KEY) as draft:
        draft.allocate(2, 256)
        windows = [list(range(8))] * 2
        def kill(done):
            if done == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
        engine = BigramEngine(table())
        await record_reference(engine, windows, WindowProtocol(8, 4), draft.rows, kill)

asyncio.run(main())
"""


@pytest.mark.parametrize("windows_done", [1, 2])
def test_a_killed_pass_leaves_nothing_that_is_taken_for_whole(tmp_path: Path, windows_done: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(windows_done)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    store = ReferenceStore(tmp_path)
    (remains,) = tmp_path.iterdir()
    assert (remains / "rows.bin").exists()
    assert store.find(KEY) is None
    write(store)
    assert [path.name for path in tmp_path.iterdir()] == [KEY.digest], "its remains are gone"


def test_a_pass_under_way_is_left_alone(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    other = msgspec.structs.replace(KEY, text="t2")
    with store.draft(KEY) as draft:
        draft.allocate(2, 10)
        write(store, other)
        write(store, KEY)  # two runs at a time: the first one to end counts
        draft.finish(RECORD, list(range(16)), SCORES)
    assert store.find(KEY) is not None
    assert store.find(other) is not None

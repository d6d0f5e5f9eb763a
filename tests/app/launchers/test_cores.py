"""Cores that jobs of one machine have to themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lqmf_runner.app.launchers.cores import keep_to_cores
from lqmf_runner.errors import UserInputError

HOLD = """
import sys
from lqmf_runner.app.launchers.cores import keep_to_cores
print(*keep_to_cores(int(sys.argv[1]), share=False), flush=True)
sys.stdin.read()
"""


def hold(count: int, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip


def test_jobs_have_different_cores_and_the_next_waits_for_one(tmp_path: Path) -> None:
    count = len(os.sched_getaffinity(0))
    jobs = [hold(1, tmp_path) for _ in range(count + 1)]
    try:
        assert all(job.stdin and job.stdout for job in jobs)
        readers = {job.stdout.fileno(): job for job in jobs if job.stdout}
        taken = set()
        import select

        while len(taken) < count:
            for reader in select.select(list(readers), [], [], 60)[0]:
                done = readers.pop(reader)
                taken.add(int(done.stdout.readline()))  # type: ignore[union-attr]
        assert taken == os.sched_getaffinity(0)
        ((_, waiting),) = readers.items()
        assert select.select([waiting.stdout], [], [], 0)[0] == []
        done.communicate()  # it ends, and gives its core back
        assert int(waiting.stdout.readline()) in taken  # type: ignore[union-attr]
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


def test_a_job_with_more_cores_than_the_machine_has_is_refused() -> None:
    with pytest.raises(UserInputError, match="is to have 10000 cores"):
        keep_to_cores(10_000, share=False)


def test_locks_are_not_kept_where_somebody_else_has_made_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"lqmf-cores-{os.getuid()}").symlink_to("elsewhere")
    with pytest.raises(UserInputError, match="is no folder of this user"):
        keep_to_cores(1, share=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []

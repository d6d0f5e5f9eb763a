"""`requests.jsonl` on disks that work and disks that are full."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.results.files import read_requests, read_results, write_results
from lqmf_runner.results.logs.request_log import RequestLog
from lqmf_runner.results.schema import RequestRecord, Results, RunRecord, SystemInfo


def record(number: int) -> RequestRecord:
    return RequestRecord(model="m", load="c1", prompt_id=f"p{number}", turn=0, user=0, text="\u2028 x" * 20)


def ids(folder: Path) -> list[str]:
    return [r.prompt_id for r in read_requests(folder)]


def results() -> Results:
    return Results(
        run=RunRecord(
            id="1", mode="benchmark", name="m", started_at="2026-01-01T00:00:00+00:00", command="x"
        ),
        system=SystemInfo(cpu="c", cores=2, ram_mb=1.0, os="o", python="3"),
    )


def test_each_line_is_on_disk_when_its_request_ends(tmp_path: Path) -> None:
    with RequestLog(tmp_path) as log:
        for number in range(3):
            log.write(record(number))
            assert ids(tmp_path) == [f"p{n}" for n in range(number + 1)]


def test_a_full_disk_loses_nothing_once_there_is_room_again(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RequestLog(tmp_path)
    log.write(record(0))
    size = log.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        log.write(record(1))
        log.write(record(2))
        assert log.problem is not None
        assert log.path.stat().st_size == size  # whole lines only
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(record(3))
    log.close()
    assert log.problem is None
    assert ids(tmp_path) == ["p0", "p1", "p2", "p3"]


def test_a_device_without_space_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").symlink_to("/dev/full")
    with RequestLog(tmp_path) as log:
        log.write(record(0))
    assert log.problem is not None
    assert "No space left" in str(log.problem)


def test_a_line_cut_by_a_crash_is_dropped(tmp_path: Path) -> None:
    with RequestLog(tmp_path) as log:
        log.write(record(0))
    with log.path.open("ab") as file:
        file.write(b'{"model":"m","loa')
    assert ids(tmp_path) == ["p0"]


def test_results_round_trip_and_failed_writes_keep_the_old_file(tmp_path: Path) -> None:
    write_results(results(), tmp_path)
    assert read_results(tmp_path) == results()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="large"):
            write_results(results(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_results(tmp_path) == results()
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="holds no results"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserInputError, match="cannot be read"):
        read_results(tmp_path)

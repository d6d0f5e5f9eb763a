"""mode=history on a real store: which runs it shows, and what it calls worse."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from lqmf_runner.config import HistoryMode, RunConfig, TrackingConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.modes.runs.history import run
from lqmf_runner.reports.history.select import parse_since, select
from lqmf_runner.reports.history.table import print_history
from lqmf_runner.results.history import PastRun
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.mlflow_store import read_past_runs, send_folder
from tests.support.runs.sample import sample_model
from tests.tracking.conftest import make_folder


def at(day: int) -> str:
    return f"2026-03-{day:02d}T10:00:00+00:00"


def model(name: str, speed: float, version: str = "abc", form: str = "gguf") -> ModelResult:
    made = sample_model(name, speed=speed)
    made.version, made.format = version, form
    return made


@pytest.fixture(scope="module")
def tracked(store: TrackingConfig, tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """Steady runs of `steady`; `falls` gets slower with new weights; a pair under one parent; other machines."""
    root = tmp_path_factory.mktemp("history")
    config = dataclasses.replace(store, experiment="history")
    for day, speed in enumerate((100.0, 104.0, 97.0, 101.0, 95.0), start=1):
        send_folder(make_folder(root, model("steady", speed), started_at=at(day)), config)
    for day, speed, version in ((1, 100.0, "abc"), (2, 99.0, "abc"), (3, 60.0, "new")):
        send_folder(make_folder(root, model("falls", speed, version), started_at=at(day)), config)
    send_folder(make_folder(root, model("falls", 20.0), started_at=at(4), cpu="A slower one"), config)
    send_folder(make_folder(root, model("falls", 20.0), started_at=at(5), max_tokens=8), config)
    send_folder(make_folder(root, model("falls", 20.0), started_at=at(6), status="partial"), config)
    pair = (model("left", 50.0, form="bnb"), model("right", 70.0, form="gptq"))
    send_folder(make_folder(root, *pair, started_at=at(9)), config)
    return config


@pytest.fixture(scope="module")
def runs(tracked: TrackingConfig) -> list[PastRun]:
    return read_past_runs(tracked, 1000)


def context(mode: HistoryMode, tracking: TrackingConfig) -> RunContext:
    config = RunConfig(mode=mode, tracking=tracking)
    return RunContext(config, (config,), {}, Path("."), "")


def test_runs_come_back_whole_and_newest_first(runs: list[PastRun]) -> None:
    assert [r.model for r in runs[:2]] in (["left", "right"], ["right", "left"])  # not their parent
    assert [r.started_at for r in runs] == sorted((r.started_at for r in runs), reverse=True)
    assert len(runs) == 13
    first = runs[-1]
    assert datetime.fromisoformat(first.started_at) == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert (first.mode, first.prompts, first.method, first.status) == (
        "benchmark",
        "tiny",
        "Q4_1",
        "complete",
    )
    assert first.metrics["c8/output_tokens_per_s"] > 0


def test_only_what_is_worse_under_equal_conditions_is_marked(
    tracked: TrackingConfig, runs: list[PastRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(context(HistoryMode(regressions=True, output="json"), tracked)) == 0
    )  # through the child process
    (worse,) = json.loads(capsys.readouterr().out)
    (expected,) = (r for r in runs if r.version == "new")
    changes = {change["metric"]: change for change in worse.pop("regressions")}
    assert worse == msgspec.to_builtins(expected)
    assert set(changes) == {f"c{n}/output_tokens_per_s" for n in (1, 4, 8)}
    speed = changes["c1/output_tokens_per_s"]
    assert speed["after"] / speed["before"] == pytest.approx(60 / 99.5, rel=0.01)
    assert speed["runs"] == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model": "st*"}, ["steady"] * 5),
        ({"format": "bnb"}, ["left"]),
        ({"mode": "compare"}, []),
        ({"since": "2026-03-05"}, ["falls", "falls", "left", "right", "steady"]),
        ({"show": "latest"}, ["falls", "left", "right", "steady"]),
        ({"show": "best", "model": "falls"}, ["falls", "falls"]),  # one for each machine
        ({"limit": 3, "model": "steady"}, ["steady"] * 3),
    ],
)
def test_filters(runs: list[PastRun], settings: dict[str, object], expected: list[str]) -> None:
    mode = HistoryMode(**settings)  # type: ignore[arg-type]
    since = parse_since(mode.since, datetime.now(UTC)) if mode.since else None
    assert sorted(r.model for r in select(runs, mode, since, {})) == expected


def test_best_is_best_by_the_metric(runs: list[PastRun]) -> None:
    (fastest,) = select(runs, HistoryMode(show="best", model="steady"), None, {})
    assert fastest.metrics["c1/output_tokens_per_s"] == max(
        r.metrics["c1/output_tokens_per_s"] for r in runs if r.model == "steady"
    )
    with pytest.raises(UserInputError, match="better and worse"):
        select(runs, HistoryMode(show="best", metric="c1/cached_tokens"), None, {})
    with pytest.raises(UserInputError, match="no run has") as caught:
        select(runs, HistoryMode(show="trend", metric="c99/ttft_s.p50"), None, {})
    assert "c1, c4, c8" in caught.value.hint


@pytest.mark.parametrize("width", [60, 100, 180])
def test_the_trend_is_a_table_that_fits(runs: list[PastRun], width: int) -> None:
    mode = HistoryMode(show="trend", model="falls")
    shown = select(runs, mode, None, {})
    console = Console(file=io.StringIO(), width=width)
    print_history(console, shown, runs, {}, mode)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "-39.4 %" in text
    assert "changed" in text


def test_a_line_says_prompts_loads_a_busy_machine_and_what_it_is_best_in(runs: list[PastRun]) -> None:
    busy = msgspec.structs.replace(runs[0], metrics=runs[0].metrics | {"other_cores": 1.25})
    console = Console(file=io.StringIO(), width=250)
    print_history(console, [busy], runs, {}, HistoryMode(show="best"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Best by tok/s c1: the highest of each model" in text
    head, row = (line for line in text.splitlines() if "prompts" in line or "busy" in line)
    assert "tiny" in row
    assert "c1 c4 c8" in row
    assert "busy: 1.2 cores" in row
    assert "KLD" not in head  # nobody measured it


def test_what_no_run_fits_is_said_with_the_models_there_are(runs: list[PastRun]) -> None:
    console = Console(file=io.StringIO(), width=60)
    print_history(console, [], runs, {}, HistoryMode(model="gone", since="7d"))
    names = ", ".join(sorted({run.model for run in runs}))
    assert console.file.getvalue() == f"no run fits model=gone since=7d; there are runs of {names}\n"  # type: ignore[attr-defined]


def test_only_the_newest_are_read(tracked: TrackingConfig, runs: list[PastRun]) -> None:
    assert read_past_runs(tracked, 2) == runs[:2]


def test_without_a_store_there_is_no_history_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = TrackingConfig(uri=f"sqlite:///{tmp_path}/none.db")
    assert run(context(HistoryMode(), nowhere)) == 0
    assert "no runs to show yet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserInputError, match="without tracking"):
        run(context(HistoryMode(), TrackingConfig(enabled=False)))


def test_since_is_an_age_or_a_date() -> None:
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)
    assert parse_since("12h", now) == now - timedelta(hours=12)
    assert parse_since("4w", now) == now - timedelta(days=28)
    assert parse_since("2026-01-31", now) == datetime(2026, 1, 31, tzinfo=UTC)
    for wrong in ("yesterday", "7", "-3d", "99999999999d"):
        with pytest.raises(UserInputError, match="neither"):
            parse_since(wrong, now)

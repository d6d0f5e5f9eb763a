"""mode=compare mode.served=: from requests over HTTP to the verdict and the alias."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lqmf_runner.config import CompareMode, RunConfig, TrackingConfig
from lqmf_runner.errors import LqmfError, QueueFullError, TooManyRequestsError, UserInputError
from lqmf_runner.openai_api.client.errors import read_error
from lqmf_runner.results.files import read_results
from lqmf_runner.results.schema import Results
from lqmf_runner.results.served import FAILED, OK, REFUSED, SERVED, ServedRecord, read_served
from lqmf_runner.runs.context import RunContext
from lqmf_runner.runs.versions import promote
from lqmf_runner.runs.versions.served import compare_served
from lqmf_runner.server.versions.registry import Registry
from lqmf_runner.server.watch.observe import ServedRequest
from lqmf_runner.server.watch.served import ServedLog

from ...support.runs.versions import MemoryRegistry, version
from ...support.server.fakes import fake_server
from ...support.server.served import SHARES, served


def judged(root: Path, *sessions: Path, name: str = "x", tracked: bool = False, **mode: Any) -> Results:
    folder = root / "comparison"
    folder.mkdir(exist_ok=True)
    config = RunConfig(
        mode=CompareMode(served=name, **mode),
        tracking=TrackingConfig(enabled=tracked, uri=f"sqlite:///{root}/none/mlflow.db"),
    )
    context = RunContext(config, (config,), {}, folder, "python -m lqmf_runner mode=compare", sends=False)
    assert compare_served(context, [str(session) for session in sessions]) == 0
    return read_results(folder)


def write(folder: Path, records: list[ServedRecord], name: str = SERVED) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return folder


async def test_what_was_asked_over_http_is_what_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4, "candidate"))
    registry = Registry(TrackingConfig(), read=memory.read, change=memory.change)
    log = ServedLog(tmp_path, max_mb=10)
    sizes = {"x@3": 100.0, "x@4": 100.0, "y": 100.0}
    async with (
        log.running(),
        fake_server(sizes=sizes, registry=registry, watchers=[log], shares={"x": {"x@3": 1}}) as (client, _),
    ):
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
        await client.post("/v1/chat/completions", json={**body, "model": "x"})  # before the split
        await client.post("/models/x/split", json={"split": {"champion": 50, "candidate": 50}})
        versions = []
        for number in range(40):
            asked = {**body, "model": "x", "stream": number % 2 == 0}
            answer = await client.post(
                "/v1/chat/completions", json=asked, headers={"x-session-id": f"s{number // 2}"}
            )
            versions.append(answer.headers["x-model-version"])
        await client.post("/v1/chat/completions", json={**body, "model": "x@4"})  # by its own name
        await client.post("/v1/chat/completions", json={**body, "model": "y"})
    records = read_served(tmp_path)
    assert [record.version for record in records] == versions
    first = records[0]
    assert (first.outcome, first.finish_reasons, first.output_tokens, first.gaps) == ("ok", ["stop"], 3, 2)
    assert 0 < first.ttft_s < first.e2e_s
    assert first.shares == SHARES
    assert len({record.unit for record in records}) == 20
    assert "s1" not in (tmp_path / SERVED).read_text()
    results = judged(tmp_path, tmp_path)
    assert results.verdict is not None
    assert "too few requests to judge x@4" in results.verdict.headline
    counted = {model.name: model.loads[0].requests for model in results.models}
    assert counted == {label: versions.count(label) for label in ("x@3", "x@4")}
    assert "Verdict: too few requests" in capsys.readouterr().out


def test_the_verdict_is_over_the_last_split_and_promotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = served(random.Random(1), "x@3", 50, shares={"x@2": 0.5, "x@3": 0.5}, time=1.0)
    session = write(tmp_path / "session", served(random.Random(2), "x@3", 100), f"{SERVED}.1")
    write(session, served(random.Random(3), "x@3", 100, restarted=True))
    write(tmp_path / "other", [*old, *served(random.Random(4), "x@4", 200, gap_s=0.006)])
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4))
    monkeypatch.setattr(promote, "read_versions", memory.read)
    monkeypatch.setattr(promote, "change_alias", memory.change)
    results = judged(tmp_path, session, tmp_path / "other", tracked=True, promote="champion")
    assert results.verdict is not None
    assert results.verdict.winner == "x@4"
    assert results.verdict.cautions == ["50 earlier requests, under other shares, are left out"]
    assert [(model.name, model.version) for model in results.models] == [("x@3", "d3"), ("x@4", "d4")]
    load = results.models[0].loads[0]
    assert (load.requests, load.finish_reasons, load.output_tokens_per_s) == (200, {"stop": 200}, None)
    assert memory.on("x", "champion") == 4
    said = capsys.readouterr().out
    assert "promoted: x@4 is champion now, before x@3; it beats x@3 by more than noise" in said
    report = (tmp_path / "comparison" / "report.md").read_text()
    assert "client left" in report
    assert "on the Pareto front" not in report


def test_where_nothing_decides_the_alias_stays_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = write(tmp_path / "session", served(random.Random(2), "x@3", 20))
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4))
    monkeypatch.setattr(promote, "read_versions", memory.read)
    judged(tmp_path, session, tracked=True, promote="champion")
    assert memory.changes == []
    assert "not promoted: too few requests to judge x@4" in capsys.readouterr().out


def test_a_name_that_was_not_split_is_refused_with_those_that_were(tmp_path: Path) -> None:
    session = write(tmp_path / "session", served(random.Random(2), "x@3", 20))
    with pytest.raises(UserInputError, match="no split of the requests for y") as caught:
        judged(tmp_path, session, name="y")
    assert caught.value.hint == "one was of: x"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError) as caught:
        judged(tmp_path, tmp_path / "empty", name="y")
    assert "POST /models/y/split" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueueFullError("full"), FAILED),
        (read_error(429, "slow down"), FAILED),
        (TooManyRequestsError("yours"), REFUSED),
        (None, OK),
    ],
)
async def test_a_full_queue_is_a_failure_of_its_version(
    tmp_path: Path, error: LqmfError | None, outcome: str
) -> None:
    log = ServedLog(tmp_path, max_mb=1)
    request = ServedRequest(
        "/v1/chat/completions", "x", streaming=False, n=1, scope={"headers": []}, target="x@3", shares=SHARES
    )
    request.error, request.status = error, error.status if error else 200
    async with log.running():
        log.on_end(request)
    assert [record.outcome for record in read_served(tmp_path)] == [outcome]

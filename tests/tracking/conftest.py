"""One MLflow store on SQLite for all tests of tracking (making one takes seconds), and folders to send to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lqmf_runner.config import TrackingConfig
from lqmf_runner.results.files import write_results
from lqmf_runner.results.schema import ModelResult
from tests.support.runs.sample import sample_results
from tests.support.runs.stores import Postgres, running_postgres


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    root = tmp_path_factory.mktemp("store")
    return TrackingConfig(uri=f"sqlite:///{root}/mlruns/mlflow.db", artifacts=str(root / "mlruns/artifacts"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; each test makes a database of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_folder(
    root: Path,
    *models: ModelResult,
    sweep: str | None = None,
    started_at: str | None = None,
    max_tokens: int = 64,
    cpu: str = "A Processor",
    status: str = "complete",
) -> Path:
    """A finished run's folder, with secrets in its configuration."""
    folder = root / "outputs" / f"run-{len(list(root.glob('outputs/*')))}"
    (folder / ".hydra").mkdir(parents=True)
    results = sample_results(*models)
    results.run.sweep, results.run.status, results.system.cpu = sweep, status, cpu
    results.run.id = f"{root.name}-{folder.name}"
    if started_at is not None:
        results.run.started_at = results.run.finished_at = started_at
    write_results(results, folder)
    (folder / "report.md").write_text("# report")
    config = {
        "model": {"name": "a"},
        "backend": {"api_key": "sk-secret"},
        "mode": {"name": "benchmark", "warmup": 2, "sampling": {"max_tokens": max_tokens}},
        "prompts": {
            "name": "tiny",
            "entries": [{"id": "p0", "prompt": "Hello"}, {"id": "p1", "turns": ["One", "Two", "Three"]}],
        },
    }
    (folder / ".hydra" / "resolved.json").write_text(json.dumps(config))
    return folder

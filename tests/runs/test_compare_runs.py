"""mode=compare over runs that are finished: from folders, a sweep's folder, or MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lqmf_runner.config import CompareMode, RunConfig, TrackingConfig, VerdictConfig, WeightsConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.reports.figures import short_id
from lqmf_runner.results.files import read_results, write_results
from lqmf_runner.results.schema import ModelResult, Results
from lqmf_runner.runs.compare import compare_runs
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.mlflow_store import send_folder
from tests.support.runs.sample import sample_model, sample_results

CONFIG: dict[str, Any] = {
    "prompts": {"name": "few", "entries": [{"id": "a", "prompt": "Why?"}]},
    "mode": {"name": "benchmark", "warmup": 2, "sampling": {"max_tokens": 64, "temperature": 0.0}},
    "reference": None,
}


def finished(folder: Path, *models: ModelResult, config: dict[str, Any] = CONFIG, **system: Any) -> Path:
    """A run's folder as a finished run leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    results = sample_results(*models)
    results.run.id = folder.name
    results.system = msgspec.structs.replace(results.system, **system)
    write_results(results, folder)
    (folder / ".hydra" / "resolved.json").write_text(json.dumps(config))
    return folder


class Comparing:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "comparison"
        self.folder.mkdir()

    def run(self, *runs: Path | str, **settings: Any) -> int:
        usual = {"mode": CompareMode(), "tracking": TrackingConfig(enabled=False)}
        config = RunConfig(runs=[str(run) for run in runs], **(usual | settings))
        return compare_runs(
            RunContext(config, (config,), {}, self.folder, "python -m lqmf_runner mode=compare")
        )

    @property
    def results(self) -> Results:
        return read_results(self.folder)


@pytest.fixture
def comparing(tmp_path: Path) -> Comparing:
    return Comparing(tmp_path)


def test_two_runs_of_one_model_are_compared_figure_by_figure(
    comparing: Comparing, capsys: pytest.CaptureFixture[str]
) -> None:
    """103 against 100 tok/s is within what unrepeated runs differ by (95 % of √2 × 2.5 %); 120 is not."""
    loads = {"one": 2.4, "two": 2.2, "three": 4.8}  # seconds: the cache of the disk alone does as much
    models = [sample_model("a", speed=speed) for speed in (100.0, 103.0, 120.0)]
    for model, load_time_s in zip(models, loads.values(), strict=True):
        model.load_time_s = load_time_s
    runs = [finished(comparing.root / name, model) for name, model in zip(loads, models, strict=True)]
    assert comparing.run(*runs) == 0
    results = comparing.results
    assert [m.name for m in results.models] == ["a one", "a two", "a three"]
    assert results.run.compares == ["one", "two", "three"]
    assert results.run.status == "complete"
    assert results.verdict is not None
    assert results.verdict.winner == "a three"
    speed = {d.model: d for d in results.verdict.differences if d.metric == "tokens_per_s"}
    assert [speed[name].beyond_noise for name in ("a two", "a three")] == [False, True]
    assert speed["a two"].better is None
    assert speed["a three"].better is True
    assert speed["a three"].change == pytest.approx(0.2)
    assert all(d.baseline == "a one" for d in results.verdict.differences)
    memory = next(d for d in results.verdict.differences if d.metric == "memory_mb")
    assert memory.text == "memory: 270 MB → 270 MB (equal)"
    loading = [d.beyond_noise for d in results.verdict.differences if d.metric == "load_time_s"]
    assert loading == [False, True]
    assert "a three against a one:" in capsys.readouterr().out
    assert "beyond the noise" in (comparing.folder / "report.md").read_text()


def test_models_are_matched_by_name(comparing: Comparing) -> None:
    one = finished(comparing.root / "one", sample_model("a"), sample_model("b"))
    two = finished(comparing.root / "two", sample_model("b"), sample_model("c"))
    comparing.run(one, two)
    assert comparing.results.verdict is not None
    pairs = {(d.baseline, d.model) for d in comparing.results.verdict.differences}
    assert pairs == {("b one", "b two"), ("a", "c")}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"prompts": {"name": "few", "entries": [{"id": "a", "prompt": "Who?"}]}}, "prompts differ"),
        ({"mode": {"sampling": {"max_tokens": 48, "temperature": 0.0}}}, "max_tokens 64; max_tokens 48"),
    ],
)
def test_runs_with_other_prompts_or_sampling_are_refused_unless_told(
    comparing: Comparing, changed: dict[str, Any], what: str
) -> None:
    one = finished(comparing.root / "one", sample_model("a"))
    two = finished(comparing.root / "two", sample_model("b"), config=CONFIG | changed)
    with pytest.raises(UserInputError, match=what) as caught:
        comparing.run(one, two)
    assert "allow_different" in caught.value.hint
    comparing.run(one, two, mode=CompareMode(allow_different=True))
    assert comparing.results.verdict is not None
    assert what in comparing.results.verdict.cautions[0]


def test_another_machine_is_marked(comparing: Comparing) -> None:
    one = finished(comparing.root / "one", sample_model("a"))
    two = finished(comparing.root / "two", sample_model("b"), cpu="Another", cores=64)
    assert comparing.run(one, two) == 0
    assert comparing.results.verdict is not None
    assert comparing.results.verdict.cautions[0] == (
        "Mind that the machines differ: cpu A Processor, cores 2; cpu Another, cores 64."
    )


def test_a_constraint_on_what_none_measured_is_refused(comparing: Comparing) -> None:
    runs = [finished(comparing.root / name, sample_model(name)) for name in ("a", "b")]
    with pytest.raises(UserInputError, match="max_kld bounds what these runs did not measure"):
        comparing.run(*runs, verdict=VerdictConfig(max_kld=0.1))
    with pytest.raises(UserInputError, match=r"verdict\.concurrency=3 is a load that none"):
        comparing.run(*runs, verdict=VerdictConfig(min_tokens_per_s=1, concurrency=3))


@pytest.mark.parametrize("name", ["nowhere", "outputs/none"])
def test_a_run_that_is_not_there_is_named(comparing: Comparing, name: str) -> None:
    with pytest.raises(UserInputError, match=f"there is no run '{name}'"):
        comparing.run(name, name)


def test_a_sweep_folder_stands_for_its_jobs(comparing: Comparing) -> None:
    """What sets the jobs apart is shown as the user wrote it: Hydra's own record has escapes."""
    sweep = comparing.root / "sweep"
    for number, value in enumerate(("n_ctx=512", r"base_url=http\://h\:80/v1")):
        job = finished(sweep / str(number), sample_model("a"))
        overrides = f"- mode=benchmark\n- model=a\n- backend.{value}\n"
        (job / ".hydra" / "overrides.yaml").write_text(overrides)
    (sweep / "multirun.yaml").touch()
    other = finished(comparing.root / "other", sample_model("b"))
    comparing.run(sweep, other)
    assert [m.name for m in comparing.results.models] == ["a n_ctx=512", "a base_url=http://h:80/v1", "b"]


def sweep_of(folder: Path, started_at: str, *jobs: ModelResult) -> Path:
    """A sweep's folder, whose jobs have left results."""
    for number, model in enumerate(jobs):
        job = finished(folder / str(number), model)
        results = read_results(job)
        results.run.started_at = started_at
        write_results(results, job)
        (job / ".hydra" / "overrides.yaml").write_text(f"- model={model.name}\n")
    (folder / "multirun.yaml").touch()
    return folder


def test_the_jobs_of_one_sweep_are_compared(comparing: Comparing) -> None:
    sweep = sweep_of(
        comparing.root / "sweep", "2026-01-01T02:00:01+00:00", sample_model("a"), sample_model("b")
    )
    assert comparing.run(sweep) == 0
    assert [m.name for m in comparing.results.models] == ["a", "b"]


@pytest.mark.parametrize(
    ("days", "names"),
    [
        (("2026-01-01T02:00:01+00:00", "2026-01-02T02:00:01+00:00"), ["a 2026-01-01", "a 2026-01-02"]),
        (
            ("2026-01-01T02:00:01+00:00", "2026-01-01T03:00:01+00:00"),
            ["a 2026-01-01 02:00:01", "a 2026-01-01 03:00:01"],
        ),
    ],
)
def test_runs_that_differ_in_nothing_but_their_start_are_told_apart_by_it(
    comparing: Comparing, days: tuple[str, str], names: list[str]
) -> None:
    sweeps = [sweep_of(comparing.root / str(n) / "s", day, sample_model("a")) for n, day in enumerate(days)]
    assert comparing.run(*sweeps) == 0
    assert [m.name for m in comparing.results.models] == names


def test_one_run_is_judged_again_by_other_weights(comparing: Comparing) -> None:
    small, fast = sample_model("small", speed=50.0), sample_model("fast", speed=500.0)
    for model, mb in ((small, 10.0), (fast, 90.0)):
        model.memory = msgspec.structs.replace(model.memory, rss_mb=mb)
    run = finished(comparing.root / "one", small, fast)
    for weights, winner in (
        (WeightsConfig(memory=0, fidelity=0), "fast"),
        (WeightsConfig(speed=0, fidelity=0), "small"),
    ):
        assert comparing.run(run, verdict=VerdictConfig(weights=weights)) == 0
        assert comparing.results.verdict is not None
        assert comparing.results.verdict.winner == winner


def test_too_few_runs_and_runs_without_models_are_refused(comparing: Comparing) -> None:
    empty = sweep_of(comparing.root / "empty", "", sample_model("a"))
    (empty / "0" / "results.json").unlink()
    with pytest.raises(UserInputError, match="is not enough: none with results"):
        comparing.run(empty)
    with pytest.raises(UserInputError, match="is not enough: 1 with results"):
        comparing.run(finished(comparing.root / "one", sample_model("a")))
    failed = [finished(comparing.root / f"failed{n}") for n in range(2)]
    for folder in failed:
        results = read_results(folder)
        results.models = []
        write_results(results, folder)
    with pytest.raises(UserInputError, match="they measured no model"):
        comparing.run(*failed)


def test_batches_over_other_files_are_refused(comparing: Comparing) -> None:
    configs = [CONFIG | {"mode": {"name": "batch", "input": name}} for name in ("q.txt", "r.txt")]
    runs = [
        finished(comparing.root / str(n), sample_model("a"), config=config)
        for n, config in enumerate(configs)
    ]
    with pytest.raises(UserInputError, match=r"the prompts differ: input q\.txt; input r\.txt"):
        comparing.run(*runs)


@pytest.mark.parametrize(
    ("run_id", "shown"),
    [("3f2a91c0ffff", "3f2a91c0"), ("12345678ffff", "12345678"), ("12e456789bcd", "12e456789b")],
)
def test_a_shown_id_is_not_read_as_a_number(run_id: str, shown: str) -> None:
    assert short_id(run_id) == shown
    value = OverridesParser.create().parse_override(f"runs=[{shown}]").value()
    assert [str(part) for part in value] == [shown]


def test_runs_are_found_in_mlflow_by_the_beginning_of_their_id(comparing: Comparing) -> None:
    """A whole run, and one model of a run of two; the comparison itself adds no figures to MLflow."""
    from mlflow import MlflowClient

    store = comparing.root / "mlruns"
    tracking = TrackingConfig(uri=f"sqlite:///{store}/mlflow.db", artifacts=str(store / "artifacts"))
    whole = send_folder(finished(comparing.root / "one", sample_model("a")), tracking)
    both = send_folder(finished(comparing.root / "two", sample_model("b"), sample_model("c")), tracking)
    client = MlflowClient(tracking_uri=tracking.uri)
    experiment = client.get_run(both).info.experiment_id
    (child,) = client.search_runs([experiment], "tags.model = 'c'")
    before = len(client.search_runs([experiment]))
    assert comparing.run(whole[:8], child.info.run_id, tracking=tracking) == 0
    assert [m.name for m in comparing.results.models] == ["a", "c"]
    assert len(client.search_runs([experiment])) == before + 1
    sent = client.get_run(str(comparing.results.run.mlflow_run_id))
    assert sent.data.tags["mode"] == "compare"
    assert not [name for name in sent.data.metrics if name.startswith("c1/")]
    with pytest.raises(UserInputError, match="MLflow has no run whose id begins with abcdef") as caught:
        comparing.run("abcdef", whole, tracking=tracking)
    assert "make ui" in caught.value.hint

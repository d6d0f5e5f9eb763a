"""mode=compare: which of these models should I run? A benchmark of each, fidelity to a reference, and a verdict.

Every model gets the same prompts, in a worker process of its own. One that fails is reported, and the verdict is drawn
over those that are there. Runs that are finished can be laid side by side later.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import CompareMode, RunConfig, TrackingConfig
from ..engine.on_demand import LoadEngine
from ..errors import INTERRUPTED, UserInputError
from ..results.finished import FinishedRun, contrasts, gather, read_finished
from ..results.schema import Results
from ..tracking import MlflowTracker
from ..verdict.candidates import check_measured, verdict_concurrency
from ..verdict.differences import differences_from_first
from ..verdict.verdict import draw_verdict
from . import benchmark
from .lifecycle import begin, leave
from .locate import Locate, locate_model

if TYPE_CHECKING:
    from .context import RunContext

_RUN_ID = re.compile(r"[0-9a-f]{6,32}")


def run(context: RunContext) -> int:
    """Compare the chosen models, or finished runs, and return the exit code.

    Raises:
        UserInputError: there is nothing to run, or the runs cannot be compared.
        LqmfError: the only model could not be run.
    """
    from ..engine import load_engine

    if context.config.runs:
        return compare_runs(context)
    return run_with(context, locate=locate_model, load=load_engine)


def run_with(context: RunContext, *, locate: Locate, load: LoadEngine) -> int:
    """The same for models, with functions that find and load a model."""
    config = context.config

    found: list[Results] = []

    def conclude(results: Results) -> None:
        assert isinstance(config.mode, CompareMode)
        results.verdict = draw_verdict(results.models, config.verdict, interleaved=config.mode.interleave)
        found.append(results)

    exit_code = benchmark.run_with(context, locate=locate, load=load, conclude=conclude)
    if found and exit_code != INTERRUPTED:
        _promote(found[0], config)
    return exit_code


def _promote(results: Results, config: RunConfig) -> None:
    """Let the verdict promote, if it is to."""
    assert isinstance(config.mode, CompareMode)
    if config.mode.promote is not None:
        from .versions.promote import promote_winner

        print(promote_winner(results, config.tracking, config.mode.promote))


def compare_runs(context: RunContext) -> int:
    """Lay finished runs side by side: the verdict over all their models, and whether differences are more than noise.

    One run of several models is judged again, by other limits or weights.

    Raises:
        UserInputError: a run is not there, the runs differ in what makes figures comparable, or a constraint is about
            what none of them measured.
    """
    from ..reports.display import BenchmarkDisplay

    config = context.config
    assert isinstance(config.mode, CompareMode)
    runs = _finished_runs(config)
    found = contrasts(runs)
    invalid = [contrast.text for contrast in found if contrast.invalidates]
    if invalid and not config.mode.allow_different:
        raise UserInputError(
            f"these runs cannot be compared: {'; '.join(invalid)}",
            hint="mode.allow_different=true compares them all the same, and says so",
        )
    results = begin(context, " / ".join(run.label for run in runs))
    results.run.reason, results.run.compares = None, [run.results.run.id for run in runs]
    results.system = runs[0].results.system
    gathered = gather(runs)
    results.models = [model for models in gathered for model in models]
    check_measured(results.models, config.verdict)
    verdict = draw_verdict(results.models, config.verdict)
    assert verdict is not None
    users = verdict_concurrency(results.models, config.verdict)
    results.verdict = msgspec.structs.replace(
        verdict,
        cautions=[*(f"Mind that {contrast.text}." for contrast in found), *verdict.cautions],
        differences=differences_from_first(runs, gathered, users),
    )
    finished = f"{len(runs)} finished run{'s' * (len(runs) > 1)}"
    display = BenchmarkDisplay(["compare", finished, f"{len(results.models)} models"])
    with display:
        problems = leave(context, results, display)
    _promote(results, config)
    return 1 if problems else 0


def _finished_runs(config: RunConfig) -> list[FinishedRun]:
    runs = [run for name in config.runs for run in _read(name, config.tracking)]
    if len(runs) < 2 and sum(len(run.results.models) for run in runs) < 2:
        raise UserInputError(
            f"runs=[{','.join(config.runs)}] is not enough: {len(runs) or 'none'} with results",
            hint="give two runs, a run of several models, or a sweep with two jobs that left results",
        )
    if not any(run.results.models for run in runs):
        raise UserInputError(
            "these runs cannot be compared: they measured no model",
            hint="their reports say what went wrong; run them again",
        )
    return runs


def _read(name: str, tracking: TrackingConfig) -> list[FinishedRun]:
    """The run of a folder, the jobs of a sweep's folder, or an MLflow run by its id."""
    folder = Path(name)
    if folder.is_dir():
        return read_finished(folder)
    if not _RUN_ID.fullmatch(name):
        raise UserInputError(
            f"there is no run '{name}'",
            hint="name a folder as in outputs/<date>/<time>-<mode>, or an MLflow run id",
        )
    with tempfile.TemporaryDirectory() as fetched:
        target = Path(fetched) / name
        target.mkdir()
        MlflowTracker(tracking).fetch(name, target)
        return read_finished(target)

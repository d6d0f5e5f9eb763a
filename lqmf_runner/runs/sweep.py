"""A sweep as a whole: complete jobs are skipped, and one table and verdict are made at the end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ..config import RunConfig, TrackingConfig, VerdictConfig
from ..errors import UserInputError
from ..results.files import clear_results, read_results
from ..results.finished import FinishedRun, contrasts, gather, read_finished, sweep_jobs
from ..verdict.verdict import draw_verdict
from .context import RunContext
from .lifecycle import begin, leave


def is_complete(job: Path, resolved: Mapping[str, Any]) -> bool:
    """Whether a job's folder has a complete run of this configuration. The files of an incomplete run are removed.

    Raises:
        UserInputError: the folder holds a run of another configuration.
    """
    try:
        before = json.loads((job / ".hydra" / "resolved.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if before != json.loads(json.dumps(resolved, default=str)):
        raise UserInputError(
            f"{job} holds a run with other settings", hint="repeat the command of the sweep as it was"
        )
    try:
        if read_results(job).run.status == "complete":
            return True
    except UserInputError:
        pass
    clear_results(job)
    return False


def conclude(folder: Path, command: str, verdict: VerdictConfig, tracking: TrackingConfig) -> None:
    """Write one table and one verdict over the jobs into the sweep's folder, in the form of a run.

    A sweep whose jobs leave no results, such as one of mode=quantize, gets none.
    """
    from ..reports.display import BenchmarkDisplay

    runs = read_finished(folder) if sweep_jobs(folder) else []
    if not runs:
        return
    jobs = len(sweep_jobs(folder))
    config = RunConfig(verdict=verdict, tracking=tracking)
    context = RunContext(config, (config,), {}, folder, command, sweep_dir=folder.absolute())
    results = begin(context, f"sweep of {_number(jobs, 'job')}")
    results.run.mode, results.run.compares = runs[0].results.run.mode, [run.results.run.id for run in runs]
    results.run.started_at = min(run.results.run.started_at for run in runs)
    results.run.reason = _reason(runs, jobs)
    results.system = runs[0].results.system
    results.models = [model for models in gather(runs) for model in models]
    drawn = draw_verdict(results.models, verdict)
    if drawn is not None:
        results.verdict = msgspec.structs.replace(drawn, cautions=[*_cautions(runs, jobs), *drawn.cautions])
    header = ["sweep", _number(jobs, "job"), _number(len(results.models), "model")]
    with BenchmarkDisplay(header) as display:
        leave(context, results, display)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _reason(runs: Sequence[FinishedRun], jobs: int) -> str | None:
    """Why a sweep is partial; None if all its jobs are complete."""
    incomplete = jobs - sum(run.results.run.status == "complete" for run in runs)
    return f"{incomplete} of {jobs} jobs are not complete" if incomplete else None


def _cautions(runs: Sequence[FinishedRun], jobs: int) -> list[str]:
    said = [f"Mind that {contrast.text}." for contrast in contrasts(runs)]
    if len(runs) < jobs:
        said.append(f"{jobs - len(runs)} of {jobs} jobs left no results.")
    spans = sorted(
        (datetime.fromisoformat(run.started_at), datetime.fromisoformat(run.finished_at))
        for run in (job.results.run for job in runs)
        if run.finished_at
    )
    if any(after[0] < before[1] for before, after in itertools.pairwise(spans)):
        said.append("Jobs ran at the same time, so that their speeds are not those of an idle machine.")
    return said

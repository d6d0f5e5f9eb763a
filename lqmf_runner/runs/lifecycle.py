"""The beginning and the end of a run: its record, its saved configuration, reports, the table and MLflow."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import LqmfError
from ..formats import packages
from ..results.machine import describe_system, git_commit
from ..results.schema import Results, RunRecord
from ..results.times import now
from .context import RunContext
from .folder import sweep_name

if TYPE_CHECKING:
    from ..reports.display import BenchmarkDisplay

log = logging.getLogger(__name__)


def begin(context: RunContext, name: str) -> Results:
    """The results of a new run. Its resolved configuration is saved in its folder."""
    _save_config(context)
    return Results(
        run=RunRecord(
            id=uuid.uuid4().hex[:12],
            mode=context.config.mode.name,
            name=name,
            started_at=now(),
            command=context.command,
            git_commit=git_commit(),
            sweep=sweep_name(context.sweep_dir) if context.sweep_dir else None,
            reason="running",
        ),
        system=describe_system(packages(), measure_bandwidth=False),
    )


def leave(
    context: RunContext, results: Results, display: BenchmarkDisplay, problems: Sequence[str] = ()
) -> list[str]:
    """Write the files of a run, print the table and send the run to MLflow. Returns what could not be written.

    Raises:
        KeyboardInterrupt: while the run was sent to MLflow. Everything else is written.
    """
    from ..reports import write_reports

    results.run.finished_at = now()
    results.run.status = "partial" if results.run.reason else "complete"
    problems = [*problems, *write_reports(results, context.run_dir)]
    measured = any(model.loads for model in results.models)
    if measured:
        display.table(results)
    if results.verdict is not None:
        display.verdict(results.verdict)

    def close(note: str | None = None) -> None:
        display.footer(results, context.run_dir, problems, note)

    # MLflow also shows jobs of a sweep that failed at once. For a single run the terminal does.
    if measured or context.sweep_dir is not None:
        track(context, results, close)
    else:
        close()
    return problems


def track(context: RunContext, results: Results, tell: Callable[[str | None], None]) -> None:
    """Send the run to MLflow.

    `tell` is called with one line that says what went wrong and how to send the run later, or where its artifacts are
    if not all can read them; with None if all is well.

    Raises:
        KeyboardInterrupt: the user, or the machine's scheduler, ends the program. `tell` was called.
    """
    from ..tracking import create_tracker, send_later_command

    if not context.sends:
        tell(None)
        return
    tracking, notes = context.config.tracking, list[str]()

    def not_sent(why: str) -> str:
        return f"not sent to MLflow ({why}); send it later: {send_later_command(context.run_dir, tracking)}"

    try:
        results.run.mlflow_run_id = create_tracker(tracking).send(context.run_dir, notes.append)
    except LqmfError as error:
        tell(not_sent(f"{error.message}; {error.hint}" if error.hint else error.message))
    except KeyboardInterrupt:
        tell(not_sent("interrupted"))
        raise
    else:
        tell("; ".join(notes) or None)


def _save_config(context: RunContext) -> None:
    """Save the resolved configuration beside Hydra's files. `tracking` sends it as parameters."""
    try:
        folder = context.run_dir / ".hydra"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolved.json").write_text(json.dumps(context.resolved, indent=2, default=str), "utf-8")
    except OSError as error:
        log.warning("the resolved configuration could not be saved: %s", error)

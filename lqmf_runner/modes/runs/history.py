"""mode=history: past runs from MLflow: which there are, the best, the trend of a model, and what has become worse."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ...config import HistoryMode
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode


def run(context: RunContext) -> int:
    """List past runs as a table, or as JSON with `mode.output=json`.

    Raises:
        UserInputError: tracking is off, or a setting makes no sense.
        TrackingError: MLflow cannot be read.
    """
    import msgspec

    from ...output import list_console
    from ...reports.history.select import parse_since, select
    from ...reports.history.table import print_history
    from ...results.history import find_regressions
    from ...tracking import MlflowTracker, read_history
    from ...tracking.unsent import find_unsent

    mode, tracking = context.config.mode, context.config.tracking
    assert isinstance(mode, HistoryMode)
    if not tracking.enabled:
        raise UserInputError("there is no history without tracking", hint="leave out tracking=none")
    since = parse_since(mode.since, datetime.now().astimezone()) if mode.since else None
    unsent = find_unsent(Path(context.config.output_dir), tracking)
    if mode.send:
        MlflowTracker(tracking).send_all(unsent)
        print(_count(unsent, "{} was sent to MLflow", "{} were sent to MLflow"), file=sys.stderr)
    everything = read_history(tracking)
    regressions = find_regressions(everything)
    shown = select(everything, mode, since, regressions)
    if mode.output == "json":
        listing = [
            msgspec.to_builtins(run) | {"regressions": msgspec.to_builtins(regressions.get(run.id, []))}
            for run in shown
        ]
        print(msgspec.json.format(msgspec.json.encode(listing), indent=2).decode())
    else:
        print_history(list_console(), shown, everything, regressions, mode)
    if unsent and not mode.send:
        how = "to send it: mode.send=true" if len(unsent) == 1 else "to send them: mode.send=true"
        print(_count(unsent, "{} is not in MLflow", "{} are not in MLflow") + f"; {how}", file=sys.stderr)
    return 0


def _count(runs: Sequence[Path], one: str, several: str) -> str:
    return one.format("1 run") if len(runs) == 1 else several.format(f"{len(runs)} runs")


MODE = Mode(
    HistoryMode,
    "list past runs: the latest, the best, the trend of a model, and what has become worse",
    "history smollm2_gguf mode.show=trend --since 7d",
    run,
    needs_model=False,
    leaves_folder=False,
)

"""Which past runs to show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from ...config import HistoryMode
from ...errors import UserInputError
from ...results.history import Change, PastRun, best, newest
from ...results.metrics import tracked_metric
from .table import lightest_speed

_AGE = re.compile(r"(\d+)\s*([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_since(text: str, now: datetime) -> datetime:
    """The moment that "7d" or "2026-01-31" means.

    Raises:
        UserInputError: it is neither an age nor a date.
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UserInputError(
            f"mode.since={text} is neither an age nor a date",
            hint="write 12h, 7d, 4w, or a date as 2026-01-31",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def select(
    runs: Sequence[PastRun],
    mode: HistoryMode,
    since: datetime | None,
    regressions: dict[str, list[Change]],
) -> list[PastRun]:
    """The runs to show, newest first.

    Raises:
        UserInputError: nothing can be said of better and worse for the metric.
    """
    wanted = [
        run
        for run in runs
        if all(
            pattern is None or fnmatchcase(value or "", pattern)
            for pattern, value in ((mode.model, run.model), (mode.format, run.format), (mode.mode, run.mode))
        )
        and (since is None or datetime.fromisoformat(run.started_at) >= since)
    ]
    if mode.show == "latest":
        wanted = newest(wanted)
    elif mode.show in ("best", "trend"):
        metric = mode.metric or lightest_speed(wanted)
        _check_metric(metric, wanted)
        wanted = (
            best(wanted, metric) if mode.show == "best" else [run for run in wanted if metric in run.metrics]
        )
    if mode.regressions:
        wanted = [run for run in wanted if run.id in regressions]
    wanted.sort(key=lambda run: run.started_at, reverse=True)
    return wanted[: mode.limit]


def _check_metric(metric: str, runs: Sequence[PastRun]) -> None:
    if tracked_metric(metric) is None:
        raise UserInputError(
            f"mode.metric={metric}: nothing is known of better and worse there",
            hint="try c1/output_tokens_per_s, c8/ttft_s.p50, memory/rss_mb or quality/kld.mean",
        )
    if runs and not any(metric in run.metrics for run in runs):
        loads = sorted({name.partition("/")[0] for run in runs for name in run.metrics if "/ttft_s" in name})
        raise UserInputError(
            f"no run has the metric {metric}",
            hint=f"the loads that were run are {', '.join(loads) or 'none'}",
        )

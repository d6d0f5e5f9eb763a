"""Past runs in the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from ...config import HistoryMode
from ...results.broken import BUSY_CORES
from ...results.history import Change, PastRun, previous
from ...results.metrics import METRICS, tracked_metric
from ...results.schema import ModelResult
from .. import figures as fig
from ..columns import Column
from ..tables import fit_tables, print_table, printable

_CLOSED = re.compile(rf"c(\d+)/{METRICS['tokens_per_s'].tracked}")


_FILTERS = ("model", "format", "mode", "since", "metric")


def print_history(
    console: Console,
    runs: Sequence[PastRun],
    everything: Sequence[PastRun],
    regressions: Mapping[str, Sequence[Change]],
    mode: HistoryMode,
) -> None:
    """A line a run, then what became worse in words. `everything` is what a trend finds the run before in.

    A narrow terminal splits the table: what was measured comes first, the mode and the weights last.
    """
    if not runs:
        console.print(Text(printable(_nothing(everything, mode))), soft_wrap=True)
        return
    columns = _columns(runs, regressions)
    if mode.show == "trend":
        columns += _trend_columns(mode.metric or lightest_speed(runs), everything)
    elif mode.metric:
        columns.append(_metric_column(mode.metric))
    columns += [
        Column("prompts", lambda run: run.prompts or fig.UNKNOWN, is_number=False),
        Column("loads", _loads, is_number=False),
        Column("mode", lambda run: run.mode, is_number=False),
        Column("weights", lambda run: (run.version or fig.UNKNOWN)[:8], is_number=False),
    ]
    columns = [column for column in columns if any(column.cell(run) != fig.UNKNOWN for run in runs)]
    if mode.show == "best":
        metric = mode.metric or lightest_speed(runs)
        known = tracked_metric(metric)
        way = "the highest" if known is not None and known.higher else "the lowest"
        console.print(
            Text(f" Best by {metric_label(metric)}: {way} of each model, mode and machine.", style="dim")
        )
    for table in fit_tables(columns, runs, console):
        print_table(console, table)
        console.print()
    for run in runs:
        for change in regressions.get(run.id, []):
            console.print(
                Text(f" ▼ {fig.short_id(run.id)} {printable(run.model)}: {describe(change)}", style="yellow")
            )
    console.print(Text(f" {len(runs)} of {len(everything)} in MLflow (make ui)", style="dim"))


def describe(change: Change) -> str:
    """ "tok/s c8 101 → 82.3 (-19 %), against 4 earlier runs"."""
    relative = "" if change.relative is None else f" ({_times(change.relative)})"
    runs = f"{change.runs} earlier run{'' if change.runs == 1 else 's'}"
    figures = f"{_figure(change.metric, change.before)} → {_figure(change.metric, change.after)}"
    return f"{metric_label(change.metric)} {figures}{relative}, against {runs}"


def _times(relative: float) -> str:
    """ "-19 %"; "16 ×" from ten times on."""
    return f"{relative * 100:+.0f} %" if relative < 9 else f"{relative + 1:,.0f} ×"


def metric_label(name: str) -> str:
    """What people call a metric by its name in MLflow: "TTFT p50 c8"."""
    metric = tracked_metric(name)
    if metric is None:
        return name
    return f"{metric.title} {name.rpartition('/')[0]}".rstrip() if metric.of_load else metric.title


def lightest_speed(runs: Sequence[PastRun]) -> str:
    """Name of the output rate under the lightest closed load that any of the runs had."""
    users = {int(found[1]) for run in runs for name in run.metrics if (found := _CLOSED.fullmatch(name))}
    return _of(f"c{min(users, default=1)}", "tokens_per_s")


def _nothing(everything: Sequence[PastRun], mode: HistoryMode) -> str:
    """Why there is nothing to show: no runs at all, or none that fits what was asked for."""
    if not everything:
        return "no runs to show yet; `lqmf benchmark <model>` makes some"
    asked = [f"{name}={value}" for name in _FILTERS if (value := getattr(mode, name))]
    asked += ["regressions=true"] if mode.regressions else []
    models = ", ".join(sorted({run.model for run in everything}))
    return f"no run fits {' '.join(asked) or f'show={mode.show}'}; there are runs of {models}"


def _columns(runs: Sequence[PastRun], regressions: Mapping[str, Sequence[Change]]) -> list[Column[PastRun]]:
    users = sorted(
        {int(found[1]) for run in runs for name in run.metrics if (found := _CLOSED.fullmatch(name))}
    )
    ends = list(dict.fromkeys([*users[:1], *users[-1:]]))
    columns: list[Column[PastRun]] = [
        Column("run", lambda run: fig.short_id(run.id), is_number=False),
        Column("started", lambda run: _local(run.started_at), is_number=False),
        Column("model", lambda run: run.model, is_number=False),
    ]
    if any(_mark(run, regressions) for run in runs):
        columns.append(Column("", lambda run: _mark(run, regressions), is_number=False))
    columns.append(Column("format", _format_name, is_number=False))
    columns += [_metric_column(_of(f"c{n}", "tokens_per_s"), f"tok/s\n@{n}") for n in ends]
    columns += [_metric_column(_of(f"c{n}", "ttft_s"), f"TTFT ms @{n}\np50") for n in ends[:1]]
    columns += [
        _metric_column(METRICS[key].tracked, head)
        for key, head in (("memory_mb", ""), ("kld", "KLD\nmean"), ("top1", ""))
        if any(METRICS[key].tracked in run.metrics for run in runs)
    ]
    return columns


def _format_name(run: PastRun) -> str:
    return fig.format_name(ModelResult(name=run.model, format=run.format, method=run.method))


def _trend_columns(metric: str, everything: Sequence[PastRun]) -> list[Column[PastRun]]:
    def change(run: PastRun) -> str:
        before = previous(run, everything, metric)
        if before is None or not before.metrics[metric]:
            return fig.UNKNOWN
        return f"{(run.metrics[metric] / before.metrics[metric] - 1) * 100:+.1f} %"

    def weights(run: PastRun) -> str:
        before = previous(run, everything, metric)
        return "first" if before is None else "same" if before.version == run.version else "changed"

    return [
        _metric_column(metric),
        Column("since the\nrun before", change),
        Column("weights\nsince then", weights, is_number=False),
    ]


def _of(load: str, key: str) -> str:
    """The name in MLflow of a metric under a load."""
    return f"{load}/{METRICS[key].tracked}"


def _metric_column(metric: str, head: str = "") -> Column[PastRun]:
    return Column(head or metric_label(metric), lambda run: _figure(metric, run.metrics.get(metric)))


def _figure(name: str, value: float | None) -> str:
    """A metric under its name in MLflow. What the table does not have is written like what it has under that field."""
    if value is None:
        return fig.UNKNOWN
    fields = re.split(r"[./]", name)
    for metric in METRICS.values():
        if metric.tolerance is not None and metric.field in fields:
            return fig.written(metric, value)
    return fig.megabytes(value) if name.endswith("_mb") else fig.number(value)


def _mark(run: PastRun, regressions: Mapping[str, Sequence[Change]]) -> str:
    marks = [] if run.status == "complete" else [run.status]
    if count := len(regressions.get(run.id, [])):
        marks.append(f"▼ {count} worse")
    if (others := run.metrics.get("other_cores", 0.0)) >= BUSY_CORES:
        marks.append(f"busy: {others:.1f} cores")
    return ", ".join(marks)


def _loads(run: PastRun) -> str:
    """The loads that it was measured under: "c1 c8"."""
    end = f"/{METRICS['ttft_s'].tracked}"
    return " ".join(name.removesuffix(end) for name in run.metrics if name.endswith(end)) or fig.UNKNOWN


def _local(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")

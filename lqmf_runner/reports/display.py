"""A benchmark in the terminal: live progress, then the table and the verdict.

Progress goes to stderr and the table to stdout, so the table can be redirected. Without a terminal each load prints one
line instead of a live bar.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from ..errors import LqmfError
from ..load.plan import BenchmarkPlan
from ..output import OutputConsole
from ..results.files import RESULTS
from ..results.schema import LoadResult, ModelResult, RequestRecord, Results, SystemInfo
from ..results.verdict import Verdict
from . import figures as fig
from .columns import summary_columns
from .tables import fit_tables, print_table, printable

_REFRESHES_PER_S = 2  # each costs the model a few milliseconds of a core


class BenchmarkDisplay:
    """Shows a benchmark as it goes on (an `Observer`), then its results. Use as a context manager while it runs."""

    def __init__(
        self, header: Sequence[str], *, out: Console | None = None, progress: Console | None = None
    ) -> None:
        self._header = " · ".join(("lqmf", *header))
        self._out = out or OutputConsole(file=sys.stdout, highlight=False)
        self._console = progress or OutputConsole(file=sys.stderr, highlight=False)
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn(" {task.fields[model]}", markup=False),
            TextColumn("{task.fields[what]}", markup=False, style="dim"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[result]}", markup=False),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_S,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._total: float | None = None
        self._started = 0.0
        self._tokens = 0
        self._ttft: list[float] = []
        self._ended = 0
        self._requests: int | None = 0

    def __enter__(self) -> Self:
        self._console.print(Text(self._header, style="bold"))
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A passing remark."""
        self._console.print(Text(f" {text}", style="dim"))

    def failed(self, model: str, error: Exception) -> None:
        """A model has failed, and the run goes on with the next."""
        message = error.message if isinstance(error, LqmfError) else f"{type(error).__name__}: {error}"
        self._console.print(Text(f" {model}: {printable(message)}", style="red"))
        if isinstance(error, LqmfError) and error.hint:
            self._console.print(Text(f"   {printable(error.hint)}", style="dim"))
        self._stop_task()

    def loading(self, model: str, share: float) -> None:
        """The bar of a load of weights."""
        if self._task is None:
            self._start_task(model, "load", 1.0)
        self._update(completed=share)

    def loaded(self, model: ModelResult) -> None:
        """The model answers."""
        took = fig.seconds(model.load_time_s)
        if self._task is None:
            self._start_task(model.name, "load", 1.0)
        self._update(completed=1.0, result=took)
        self._task = None
        if not self._live:
            self._line(model.name, "load", took)
        for note in model.notes:
            self.say(f"{model.name}: {printable(note)}")

    def work_started(self, model: str, what: str, total: int) -> None:
        """A bar of so many steps."""
        self._start_task(model, what, float(total))

    def work_advanced(self, done: int) -> None:
        """So many steps of the bar."""
        self._update(completed=done, count=f"{done}/{self._total:.0f}")

    def work_ended(self, model: str, what: str, summary: str) -> None:
        """The bar stays, with what came out."""
        self._update(completed=self._total, result=summary)
        self._task = None
        if not self._live:
            self._line(model, what, summary)

    def load_started(self, model: str, load: str, requests: int | None) -> None:
        """A new bar."""
        self._tokens, self._ttft, self._ended, self._requests = 0, [], 0, requests
        self._started = time.perf_counter()
        self._start_task(model, load, None if requests is None else float(requests))

    def request_ended(self, record: RequestRecord) -> None:
        """One step of the bar."""
        self._ended += 1
        if record.error is None:
            self._tokens += record.output_tokens
            if record.ttft_s is not None:
                self._ttft.append(record.ttft_s)
        if self._live:
            rate = self._tokens / max(time.perf_counter() - self._started, 1e-9)
            ttft = statistics.median(self._ttft) if self._ttft else None
            self._update(completed=self._ended, count=self._count, result=_speed(rate, ttft))

    def load_ended(self, model: str, load: str, result: LoadResult) -> None:
        """The bar stays, with the measured speed."""
        speed = _speed(result.output_tokens_per_s, result.ttft_s.p50)
        if failures := result.requests - result.succeeded:
            speed += f"  {failures} failed"
        if self._task is not None:
            self._progress.update(self._task, total=self._requests or self._ended)
        self._update(completed=self._ended, count=self._count, result=speed)
        self._task = None
        if not self._live:
            self._line(model, load, f"{self._count}  {speed}")

    def table(self, results: Results) -> None:
        """The comparison, cut into as many tables as the terminal's width asks for."""
        for table in fit_tables(summary_columns(results), results.models, self._out):
            self._out.print()
            print_table(self._out, table)
        for sentence in fig.references(results.models):
            self._prose(sentence, mark=" ", style="dim")
        if any(load.partial for model in results.models for load in model.loads):
            self._out.print(Text(" * cut short: figures of the requests that had ended", style="dim"))
        if results.verdict is None:  # it says what is wrong with a model
            for model in results.models:
                for note in model.notes:
                    self._prose(f"{model.name}: {note}", mark=" ", style="yellow")

    def verdict(self, verdict: Verdict) -> None:
        """The verdict, a line a reason."""
        self._out.print()
        self._prose(f"Verdict: {verdict.headline}.", style="bold")
        for style, lines in (("", verdict.sentences), ("yellow", verdict.cautions)):
            for line in lines:
                self._prose(line, mark="  • ", style=style)
        pairs = itertools.groupby(verdict.differences, key=lambda found: (found.baseline, found.model))
        for (baseline, model), found in pairs:
            self._prose(f"{model} against {baseline}:")
            for difference in found:
                self._prose(difference.text, mark="  • ", style="" if difference.beyond_noise else "dim")
        self._out.print()

    def footer(self, results: Results, folder: Path, problems: Sequence[str], note: str | None) -> None:
        """Where the results are, and what is wrong with them."""
        self._stop_task()
        run = results.run
        if run.status != "complete" and not (len(results.models) == 1 and run.reason != "interrupted"):
            self._console.print(
                Text(f"partial run: {printable(run.reason or '')}", style="yellow"), soft_wrap=True
            )
        for problem in problems:
            self._console.print(Text(f"error: {printable(problem)}", style="red"), soft_wrap=True)
        if problems:
            kept = (folder / RESULTS).exists()
            again = f"python -m lqmf_runner.reports {_shown(folder)}" if kept else "run it again"
            self._console.print(Text(f"hint: once that is mended: {again}"), soft_wrap=True)
        if not any(model.loads for model in results.models):
            return
        report = folder / "report.html"
        where = _shown(report if report.exists() else folder)
        mlflow = f" · MLflow run {fig.short_id(run.mlflow_run_id)} (make ui)" if run.mlflow_run_id else ""
        self._out.print(Text(f"{where}{mlflow}"), soft_wrap=True)
        if note:
            self._console.print(Text(printable(note), style="yellow"), soft_wrap=True)

    @property
    def _count(self) -> str:
        return f"{self._ended}" if self._requests is None else f"{self._ended}/{self._requests}"

    def _prose(self, text: str, *, mark: str = "", style: str = "") -> None:
        """A sentence after a mark: a terminal breaks it between words, a file gets it on one line."""
        line = Text(printable(text), style=style)
        if not (mark and self._out.is_terminal):
            self._out.print(Text(mark) + line, soft_wrap=not self._out.is_terminal)
            return
        grid = Table.grid()
        grid.add_row(Text(mark), line)
        self._out.print(grid)

    def _line(self, model: str, what: str, text: str) -> None:
        self._console.print(Text(f" {model}  {what}  {text}"), soft_wrap=True)

    def _start_task(self, model: str, what: str, total: float | None) -> None:
        self._total = total
        self._task = self._progress.add_task("", total=total, model=model, what=what, count="", result="")

    def _stop_task(self) -> None:
        if self._task is not None:
            self._progress.stop_task(self._task)
            self._task = None

    def _update(self, *, completed: float | None = None, **fields: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=completed, **fields)  # type: ignore[arg-type]


def run_header(
    mode: str, models: int, system: SystemInfo, plan: BenchmarkPlan, reference: str | None
) -> list[str]:
    """What is about to be measured, in a few words each."""
    prompts = f"prompts {plan.prompts.name} ({len(plan.prompts.entries)})"
    return [
        mode,
        f"{models} model{'s' if models > 1 else ''}",
        prompts if plan.synthetic is None else "synthetic prompts",
        *([f"reference {reference}"] if reference else []),
        f"{', '.join(gpu.name for gpu in system.gpus) or 'CPU'}, {system.cores} cores",
    ]


def _speed(tokens_per_s: float | None, ttft_s: float | None) -> str:
    return f"{fig.number(tokens_per_s)} tok/s  TTFT {fig.milliseconds(ttft_s)} ms"


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative

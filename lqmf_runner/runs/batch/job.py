"""mode=batch: answer every line of a file, and continue where the last run stopped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ...config import BatchMode, RunConfig
from ...engine import load_engine
from ...engine.on_demand import LoadEngine
from ...errors import INTERRUPTED, LqmfError, UserInputError
from ...formats import is_remote
from ...load.metrics import load_result
from ...output import OutputConsole
from ...redaction import redact_text
from ...reports.document import PROMPTS_SHOWN
from ...reports.tables import printable
from ...results.logs.request_log import RequestLog
from ...results.schema import ModelResult, RequestRecord, Shape
from ...results.times import now
from ...types import ModelSpec
from ..lifecycle import begin, track
from ..locate import Locate, locate_model
from ..recorder import ModelRecorder
from .answer_table import write_answer_table
from .files import BatchFiles, choose_files
from .input import BadLine, BatchItem
from .output import BatchOutput, Outcome, OutputError, is_cut, prompt_of
from .preview import answer_first, ask_column
from .run import BatchPlan, run_batch

if TYPE_CHECKING:
    from ..context import RunContext

_SHOWN_FAILURES = 10
_REFRESHES_PER_S = 2


def run(context: RunContext) -> int:
    """Answer the lines that have no answer yet. Returns 1 if a line failed, 130 if interrupted.

    Raises:
        UserInputError: the input is missing, empty or not text, or the output file has other contents.
        LqmfError: the model could not be run, or the output not be written; what was answered is kept.
    """
    return run_with(context, locate=locate_model, load=load_engine)


def run_with(context: RunContext, *, locate: Locate, load: LoadEngine) -> int:
    """The same, with functions that find and load the model."""
    config = context.config
    mode = _mode(config)
    files = choose_files(mode, ask_column)
    spec = locate(config)
    if mode.dry_run:
        return asyncio.run(answer_first(files.source, mode, spec, load, _print_note))
    output = BatchOutput(files.answers, files.source.format, config.model.name)
    try:
        batch = _Batch(context, files, output, spec, load)
        batch.scan()
        return batch.run()
    finally:
        output.close()


@dataclass
class _Tally:
    """Counts of the run so far."""

    answered: int = 0
    cut: int = 0
    failed: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)  # the first of them
    started: float = field(default_factory=time.perf_counter)

    def __str__(self) -> str:
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        failed = f", {self.failed:,} failed" if self.failed else ""
        cut = f" ({self.cut:,} cut off at max_tokens)" if self.cut else ""
        return f"{self.answered:,} answered{cut}{failed}, {self.tokens / elapsed:,.0f} tok/s"


class _Batch:
    """One run over an input file."""

    def __init__(
        self,
        context: RunContext,
        files: BatchFiles,
        output: BatchOutput,
        spec: ModelSpec,
        load: LoadEngine,
    ) -> None:
        self._context = context
        self._config = context.config
        self._mode = _mode(context.config)
        self._spec = spec
        self._load = load
        self._files = files
        self._source = files.source
        self._output = output
        self._model = ModelResult(name=self._config.model.name)
        self._records: list[RequestRecord] = []
        self._started_at = now()
        self._total = self._left = self._bad = 0
        self._order: dict[str, int] = {}
        self._asked_models: dict[str, None] = {}
        self._tally = _Tally()
        self._console = OutputConsole(file=sys.stderr, highlight=False)
        self._progress = Progress(
            TextColumn(" {task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_S,
            disable=not self._console.is_terminal,
        )

    def scan(self) -> None:
        """Count the lines to answer, before the model is loaded.

        Raises:
            UserInputError: the output has answers, but none to these lines.
        """
        for item in self._items():
            self._order.setdefault(item.key, self._total)
            self._total += 1
            if isinstance(item, BatchItem) and item.asked_model:
                self._asked_models[item.asked_model] = None
            if isinstance(item, BadLine):
                self._bad += 1
            else:
                self._left += not self._output.check(item)
        if self._output.done and 0 < self._left == self._total - self._bad:
            raise UserInputError(
                f"{self._output.path} holds the answers to another file",  # q.csv beside q.jsonl, say
                hint="choose another mode.output=, or remove the file to begin again",
            )

    def run(self) -> int:
        """Answer the lines, show the progress, and print a summary."""
        done = self._total - self._left - self._bad
        source = f"{self._source.path.name} ({self._source.kind}, {self._total:,} lines)"
        already = f" · {done:,} answered before" if done else ""
        self._say(f"lqmf · batch · {self._config.model.name} · {source}{already}", "bold")
        for note in (*self._source.notes, *self._other_models()):
            self._say(f"note: {note}", "yellow")
        with self._progress:
            self._task = self._progress.add_task(
                self._config.model.name, total=self._total, completed=done, tally=""
            )
            try:
                if self._left:
                    asyncio.run(self._answer())
                else:
                    list(self._todo())
            except KeyboardInterrupt:
                self._stopped("interrupted")
                return INTERRUPTED
            except LqmfError:
                self._stopped("stopped")
                raise
        self._output.arrange(self._order)
        self._write_table()
        exit_code = self._sum_up()
        return 1 if self._leave(None) else exit_code

    async def _answer(self) -> None:
        plan = BatchPlan(self._mode.concurrency, self._mode.retries, self._mode.retry_wait_s)
        self._progress.update(self._task, tally="loading")
        began = time.perf_counter()
        client = await self._load(self._spec, None)
        try:
            ModelRecorder(self._model).loaded(client.info, self._spec, time.perf_counter() - began)
            for note in client.info.notes:
                self._say(f"note: {note}", "yellow")
            self._tally.started = time.perf_counter()
            with RequestLog(self._context.run_dir) as self._log:
                await run_batch(client, self._todo(), plan, on_outcome=self._on_outcome)
            self._model.memory = await client.memory()
        finally:
            await client.close()

    def _items(self) -> Iterator[BatchItem | BadLine]:
        return self._source.items(_who_answers(self._spec), self._mode.system, self._mode.sampling.params)

    def _todo(self) -> Iterator[BatchItem]:
        """The items without an answer. Errors of bad lines are written as they are found."""
        for item in self._items():
            if isinstance(item, BadLine):
                self._output.write_bad(item)
                self._count(f"line {item.line}: {item.reason}")
            elif not self._output.check(item):
                yield item

    def _on_outcome(self, item: BatchItem, outcome: Outcome) -> None:
        self._output.write(item, outcome)
        record = _record(self._model.name, item, outcome)
        # the report shows the first answers; the texts of all are in the output
        if outcome.error is None and self._tally.answered < PROMPTS_SHOWN:
            record = _with_texts(record, item, outcome)
        self._records.append(record)
        self._log.write(record)
        if outcome.error is not None:
            self._count(f"line {item.line}: {outcome.error}")
        else:
            self._tally.answered += 1
            self._tally.cut += is_cut(outcome.completions)
            self._tally.tokens += outcome.usage.completion_tokens
            self._count(None)

    def _count(self, failure: str | None) -> None:
        if failure is not None:
            self._tally.failed += 1
            if self._tally.failed <= _SHOWN_FAILURES:
                self._tally.failures.append(failure)
        self._progress.update(self._task, advance=1, tally=str(self._tally))

    def _stopped(self, why: str) -> None:
        self._progress.stop()
        left = self._left - self._tally.answered
        self._say(f"{why}: {self._tally}, {left:,} left; run the same command again to go on", "yellow")
        try:
            self._write_table()
        except OutputError as error:
            self._say(f"error: {error.message}", "red")
        self._leave(why)

    def _leave(self, reason: str | None) -> list[str]:
        """Write results and reports, and track them in MLflow. A batch is a closed loop of requests.

        Returns the problems: what could not be written.
        """
        if not self._records:
            return []
        from ...reports import write_reports

        results = begin(self._context, self._model.name)
        results.run.started_at, results.run.finished_at = self._started_at, now()
        results.run.reason, results.run.status = reason, "partial" if reason else "complete"
        elapsed = time.perf_counter() - self._tally.started
        shape = Shape("closed", self._mode.concurrency)
        self._model.loads = [load_result(shape, self._records, elapsed, partial=reason is not None)]
        results.models = [self._model]
        problems = write_reports(results, self._context.run_dir)
        for problem in problems:
            self._say(f"error: {problem}", "red")
        track(self._context, results, lambda note: self._say(note, "yellow") if note else None)
        return problems

    def _write_table(self) -> None:
        """Write the answers beside the input's columns. The table does not change if there is nothing new."""
        table = self._files.table
        if table is not None and (self._tally.answered or self._tally.failed or not table.exists()):
            for note in write_answer_table(table, self._source, self._items(), self._output.read()):
                self._say(f"note: {note}", "yellow")

    def _other_models(self) -> list[str]:
        """A note if the lines name another model than the one that answers."""
        own = {self._spec.name, self._spec.options.get("remote_model")}
        names = [name for name in self._asked_models if name not in own]
        if not names:
            return []
        shown = ", ".join(f"'{name[:60]}'" for name in names[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return [f"the lines ask for the model {shown}{more}; {self._spec.name} answers them"]

    def _sum_up(self) -> int:
        self._say(f" {self._tally}")
        for failure in self._tally.failures:
            self._say(f" {failure}", "red")
        if (more := self._tally.failed - len(self._tally.failures)) > 0:
            self._say(f" and {more:,} more, see the output", "red")
        if self._tally.failed:
            first = "correct the file and " if self._bad else ""
            self._say(f" {first}run the same command again to retry them", "dim")
        if self._files.table is not None:
            self._say(f" {self._output.path} is what a later run continues from", "dim")
        print(self._files.result)
        return 1 if self._tally.failed else 0

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(text), style=style), soft_wrap=True)


def _print_note(text: str) -> None:
    OutputConsole(file=sys.stderr, highlight=False).print(Text(printable(text)), soft_wrap=True)


def _record(model: str, item: BatchItem, outcome: Outcome) -> RequestRecord:
    usage = outcome.usage
    return RequestRecord(
        model=model, load="batch", prompt_id=item.key, turn=0, user=0, e2e_s=outcome.e2e_s,
        finish_reason=next((done.finish_reason for done in outcome.completions), None),
        error=None if outcome.error is None else str(outcome.error), prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens, output_tokens=usage.completion_tokens,
    )  # fmt: skip


def _with_texts(record: RequestRecord, item: BatchItem, outcome: Outcome) -> RequestRecord:
    first = next(iter(outcome.completions), None)
    text = "" if first is None else first.text
    return msgspec.structs.replace(record, prompt=prompt_of(item), text=text)


def _who_answers(spec: ModelSpec) -> str:
    """An identity that changes with the weights: their version, or the endpoint's model, otherwise its address."""
    options = spec.options
    if is_remote(spec.format):
        urls = options.get("base_urls") or [options.get("base_url", "")]
        return f"{spec.name} {options.get('remote_model') or redact_text(' '.join(urls))}"
    return f"{spec.name} {spec.format} {spec.version} {options.get('quantize_on_load')}"


def _mode(config: RunConfig) -> BatchMode:
    assert isinstance(config.mode, BatchMode)
    return config.mode

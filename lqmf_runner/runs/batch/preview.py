"""Before a batch: asking which column has the prompts, and a dry run that answers the first lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from ...config import BatchMode
from ...engine.on_demand import LoadEngine
from ...reports.tables import printable
from ...types import ModelSpec
from .columns import ColumnNotClearError, shown_name
from .input import BadLine, BatchFile, BatchItem
from .output import Outcome, is_cut
from .run import BatchPlan, run_batch

LINES = 3
_LONGEST = 400  # characters of a prompt or an answer that are shown
Say = Callable[[str], None]


def ask_column(error: ColumnNotClearError) -> str:
    """Ask the user, by number or name, until one of the columns is named.

    Raises:
        UserInputError: there is nobody to ask, or the user gives up.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    print("Which column has the prompts?", file=sys.stderr)
    for number, name in enumerate(error.names, 1):
        print(f"  {number}  {printable(shown_name(name))}", file=sys.stderr)
    while True:
        try:
            print("number or name: ", end="", file=sys.stderr, flush=True)
            answer = input().strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            raise error from None
        if answer in error.names:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(error.names):
            return error.names[int(answer) - 1]


async def answer_first(
    source: BatchFile, mode: BatchMode, spec: ModelSpec, load: LoadEngine, say: Say
) -> int:
    """Answer the first lines, show them, and estimate the time for all. Nothing is written.

    Returns the exit code: 1 if one of the lines failed.

    Raises:
        LqmfError: the model could not be run.
    """
    items = list(source.items(spec.name, mode.system, mode.sampling.params))
    first = items[:LINES]
    say(f"lqmf · batch · {spec.name} · {source.path.name} ({source.kind}, {len(items):,} lines) · a dry run")
    for note in source.notes:
        say(f"note: {note}")
    good = [item for item in first if isinstance(item, BatchItem)]
    outcomes: dict[int, Outcome] = {}

    def keep(item: BatchItem, outcome: Outcome) -> None:
        outcomes[item.line] = outcome

    client = await load(spec, None)
    try:
        began = time.perf_counter()
        plan = BatchPlan(mode.concurrency, mode.retries, mode.retry_wait_s)
        await run_batch(client, iter(good), plan, on_outcome=keep)
        elapsed = time.perf_counter() - began
    finally:
        await client.close()
    for item in first:
        for line in _shown(item, outcomes.get(item.line)):
            print(printable(line))
    if good and len(items) > len(first):
        most = _long(elapsed / len(good) * len(items))
        say(f"{len(good)} lines took {elapsed:.1f} s; all {len(items):,} take about {most} or less")
    say("nothing was written; leave out mode.dry_run to answer all lines")
    failed = any(outcome.error is not None for outcome in outcomes.values())
    return int(failed or len(good) < len(first))


def _shown(item: BatchItem | BadLine, outcome: Outcome | None) -> Iterator[str]:
    if isinstance(item, BadLine):
        yield f"line {item.line}: error: {item.reason}"
    elif outcome is not None:
        messages = item.request.messages or ()
        asked = messages[-1].content if messages else item.request.prompt
        yield f"line {item.line}: {_short(asked or '')}"
        if outcome.error is not None:
            yield f"  error: {outcome.error}"
            return
        cut = " (cut off at max_tokens)" if is_cut(outcome.completions) else ""
        yield f"  → {_short(outcome.completions[0].text)}{cut}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} hours"

"""mode=console: say in plain English what is to be done."""

from __future__ import annotations

from ...config import ConsoleMode, RunConfig
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode


def check(config: RunConfig) -> None:
    """Refuse a dry run of nothing, and a model that there is not."""
    console = config.console
    if console.dry_run and not (console.say or "").strip():
        raise UserInputError("console.dry_run=true needs something to understand", hint="add console.say=")


def run(context: RunContext) -> int:
    """Do what `console.say` says, or read from the terminal until the user leaves."""
    from ...console.run import run_console

    return run_console(context, context.arguments)


MODE = Mode(
    ConsoleMode,
    "say in plain English what is to be done",
    'console "load qwen bnb4 and benchmark it"',
    run,
    check=check,
    needs_model=False,
    leaves_folder=False,
)

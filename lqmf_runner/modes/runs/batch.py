"""mode=batch: answer every line of a file."""

from __future__ import annotations

from ...config import BatchMode, RunConfig
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode, always


def check(config: RunConfig) -> None:
    """Refuse a batch without a file."""
    mode = config.mode
    assert isinstance(mode, BatchMode)
    if not mode.input:
        raise UserInputError("there is no file to answer", hint="name it: mode.input=questions.txt")


def run(context: RunContext) -> int:
    """Answer what is not answered yet."""
    from ...runs.batch import job

    return job.run(context)


MODE = Mode(
    BatchMode,
    "answer every line of a file (JSONL, CSV, text, OpenAI batch); run it again to continue",
    "batch smollm2_gguf questions.csv",
    run,
    check=check,
    runs_models=always,
)

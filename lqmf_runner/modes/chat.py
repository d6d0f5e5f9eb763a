"""mode=chat."""

from __future__ import annotations

from ..console.chat import run_chat
from ..runs.context import RunContext


def run(context: RunContext) -> int:
    """Talk to the model in the terminal."""
    return run_chat(context.config)

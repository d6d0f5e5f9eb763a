"""mode=chat: talk to a model in the terminal, or ask it one question."""

from __future__ import annotations

from ...config import ChatMode
from ...runs.context import RunContext
from ..base import Mode


def run(context: RunContext) -> int:
    """Talk to the model in the terminal."""
    from ...console.chat import run_chat

    return run_chat(context)


MODE = Mode(
    ChatMode,
    "talk to a model in the terminal, or ask it one question",
    'chat smollm2_gguf "Why is the sky blue?"',
    run,
    leaves_folder=False,
)

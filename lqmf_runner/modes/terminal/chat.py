"""mode=chat: talk to a model in the terminal, or ask it one question."""

from __future__ import annotations

from ...config import ChatMode, RunConfig
from ...runs.context import RunContext
from ..base import Mode


def runs_models(config: RunConfig) -> bool:
    """Whether the model is loaded here, and not asked on a server."""
    return config.server.url is None


def run(context: RunContext) -> int:
    """Talk to the model in the terminal."""
    from ...console.chat import run_chat

    return run_chat(context)


MODE = Mode(
    ChatMode,
    "talk to a model in the terminal, or ask it one question",
    'chat smollm2_gguf "Why is the sky blue?"',
    run,
    runs_models=runs_models,
    leaves_folder=False,
)

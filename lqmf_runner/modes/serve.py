"""mode=serve: serve models over HTTP."""

from __future__ import annotations

from ..config import RunConfig, ServeMode
from ..errors import UserInputError
from ..runs.context import RunContext
from .base import Mode


def check(config: RunConfig) -> None:
    """Refuse traces of requests that have no place to go."""
    if config.server.tracing and not config.tracking.enabled:
        raise UserInputError(
            "server.tracing=true sends traces to MLflow, and tracking=none is off",
            hint="leave one of them out",
        )


def run(context: RunContext) -> int:
    """Serve the chosen models until the user ends it."""
    from ..server import launch

    return launch.run(context)


MODE = Mode(
    ServeMode,
    "serve models over HTTP: OpenAI's API and a native one",
    "mode=serve model=smollm2_gguf server.port=8000",
    run,
    check=check,
    needs_model=False,
    several=True,
)

"""mode=serve: serve models over HTTP."""

from __future__ import annotations

import sys

from ...config import RunConfig, ServeMode
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode, always


def check(config: RunConfig) -> None:
    """Refuse traces of requests that have no place to go, and a split over versions that nobody keeps."""
    if config.server.tracing and not config.tracking.enabled:
        raise UserInputError(
            "server.tracing=true sends traces to MLflow, and tracking=none is off",
            hint="leave one of them out",
        )
    if config.server.split and not config.tracking.enabled:
        raise UserInputError(
            "server.split is over versions in MLflow's registry, and tracking=none is off",
            hint="leave one of them out",
        )


def run(context: RunContext) -> int:
    """Serve the chosen models until the user ends it.

    Raises:
        UserInputError: the port is taken, or the host, the keys or the certificate are wrong.
        LqmfError: a model of the start could not be loaded.
    """
    from ...server.guards.hosts import check_exposure
    from ...server.guards.keys import load_keys
    from ...server.process.listen import check_tls

    config = context.config.server
    keys = load_keys(config.keys_file)
    if keys.admits_nobody:
        print(
            f"no key is left in {keys.file}: this server lets nobody in until `lqmf keys --add <name>` makes one; "
            "delete the file to serve without keys",
            file=sys.stderr,
        )
    check_exposure(config.host, keys, allow_without_keys=config.allow_without_keys)
    check_tls(config.certfile, config.keyfile)
    if config.background:
        from ...server.process.background import start_in_background

        return start_in_background(context.arguments, context.run_dir)
    from ...server.launch import launch

    return launch(context, keys)


MODE = Mode(
    ServeMode,
    "serve models over HTTP: OpenAI's API and a native one",
    "serve smollm2_gguf --port 8000",
    run,
    check=check,
    runs_models=always,
    needs_model=False,
    several=True,
)

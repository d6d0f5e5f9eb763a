"""mode=serve: the REST server."""

from __future__ import annotations

import contextlib
import json

from ..config import BackendConfig, RunConfig
from ..errors import LqmfError
from . import RunContext


def run(context: RunContext) -> int:
    """Serve the chosen models until the user ends it.

    Raises:
        UserInputError: the port is taken, or the host is wrong.
        LqmfError: a model of the start could not be loaded.
    """
    import uvloop

    from ..server.app import create_app
    from ..server.catalog import LocalCatalog
    from ..server.pool import ModelPool
    from ..server.run import bind, serve, url_of
    from ..server.services import Readiness

    config = context.config.server
    chosen = [model for model in context.models if model.model.name]
    preload = [model.model.name for model in chosen]
    with contextlib.closing(bind(config)) as sock:
        configs = _configs(context) | {model.model.name: model for model in chosen}
        catalog = LocalCatalog(configs, _backend(context), context.config.models_dir)
        pool = ModelPool(catalog, config)
        readiness = Readiness()
        app = create_app(config, pool, readiness=readiness)
        url = url_of(sock)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(
                serve(
                    app,
                    sock,
                    pool=pool,
                    preload=preload,
                    readiness=readiness,
                    on_ready=lambda: print(_announcement(url, preload), flush=True),
                )
            )
    return 0


def _configs(context: RunContext) -> dict[str, RunConfig]:
    """The configuration of every model that has one and goes with the settings of this run."""
    configs = {}
    for name in context.model_names:
        if name != "local":
            with contextlib.suppress(LqmfError):
                configs[name] = context.compose(name)
    return configs


def _backend(context: RunContext) -> BackendConfig:
    """The settings for models without a configuration: those of this run, where they are not of one format only."""
    try:
        return context.compose("local", "model.name=any").backend
    except LqmfError:
        return BackendConfig()


def _announcement(url: str, models: list[str]) -> str:
    body = json.dumps(
        {"model": models[0] if models else "<name>", "messages": [{"role": "user", "content": "Hello"}]}
    )
    loaded = ", ".join(models) or "nothing yet, loaded on request"
    return (
        f"lqmf-runner serves {loaded} on {url} · try: "
        f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    )

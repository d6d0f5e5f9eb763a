"""mode=serve: the REST server."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .. import __version__
from ..config import BackendConfig, RunConfig, ServerConfig
from ..errors import LqmfError
from ..models import locate
from ..runs.context import RunContext
from ..tracking import MlflowTracker, NullTracker, send_later_command
from ..tracking.session import TIMEOUT_S as SESSION_TIMEOUT_S
from ..tracking.session import SessionTracker
from .guards.asgi import App
from .guards.keys import KeyRing, load_keys
from .process.registry import STARTING, ServerRecord, process_start
from .watch.traces import TraceRecorder

if TYPE_CHECKING:
    from .pool.pool import ModelPool


def run(context: RunContext) -> int:
    """Serve the chosen models until the user ends it.

    Raises:
        UserInputError: the port is taken, or the host, the keys or the certificate are wrong.
        LqmfError: a model of the start could not be loaded.
    """
    from .guards.security import check_exposure
    from .process.lifecycle import check_tls

    config = context.config.server
    keys = load_keys(config.keys_file)
    check_exposure(config.host, keys, allow_without_keys=config.allow_without_keys)
    check_tls(config.certfile, config.keyfile)
    if config.background:
        from .process.background import start_in_background

        return start_in_background(sys.argv[1:], context.run_dir)
    return _serve(context, keys)


def _serve(context: RunContext, keys: KeyRing) -> int:
    import uvloop

    from .app import create_app
    from .guards.guard import Guard
    from .process.background import announce_ready
    from .process.run import bind, serve, url_of
    from .services import Readiness
    from .watch.observe import Observers

    config = context.config.server
    chosen = [model for model in context.models if model.model.name]
    preload = [model.model.name for model in chosen]
    with contextlib.closing(bind(config)) as sock:
        pool = _pool(context, chosen)
        readiness = Readiness()
        port = sock.getsockname()[1]
        guard = Guard(config, keys, pool, port=port, run_dir=context.run_dir)
        recorder = _recorder(config)
        session = _session(context, guard.metrics.stats, recorder, preload)
        app = create_app(
            config,
            pool,
            observer=Observers(guard.metrics, recorder) if recorder else guard.metrics,
            readiness=readiness,
            routes=guard.routes,
            lifespan=[guard.lifespan, lambda app: session.running()],
        )
        url = url_of(sock, tls=config.certfile is not None)
        record = _record(context, url, port, preload)
        record.enter(STARTING)

        def on_ready() -> None:
            announcement = _announcement(url, preload, with_key=keys.required)
            print(announcement, flush=True)
            announce_ready(announcement)

        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(
                serve(
                    guard.wrap(cast(App, app)),
                    sock,
                    config=config,
                    pool=pool,
                    preload=preload,
                    readiness=readiness,
                    in_flight=guard.in_flight,
                    record=record,
                    on_ready=on_ready,
                )
            )
    return 0


def _pool(context: RunContext, chosen: list[RunConfig]) -> ModelPool:
    from .pool.catalog import LocalCatalog
    from .pool.pool import ModelPool

    for (
        model
    ) in chosen:  # fetched from the hub if need be; what is wrong is said to whoever starts the server
        locate(model.model, model.backend, model.models_dir)
    configs = _configs(context) | {model.model.name: model for model in chosen}
    names = [model.model.name for model in chosen]
    catalog = LocalCatalog(configs, _backend(context), context.config.models_dir, chosen=names)
    return ModelPool(catalog, context.config.server)


def _recorder(config: ServerConfig) -> TraceRecorder | None:
    if not config.tracing:
        return None
    return TraceRecorder(per_minute=config.tracing_per_minute, content=config.tracing_content)


def _session(
    context: RunContext,
    stats: Callable[[], Mapping[str, Any]],
    recorder: TraceRecorder | None,
    models: list[str],
) -> SessionTracker:
    tracking = context.config.tracking
    return SessionTracker(
        MlflowTracker(tracking, timeout_s=SESSION_TIMEOUT_S) if tracking.enabled else NullTracker(),
        context.run_dir,
        stats,
        name=f"serve {', '.join(models)}".strip(),
        command=context.command,
        config=context.resolved,
        interval_s=context.config.server.tracking_interval_s,
        take_traces=recorder.take if recorder else tuple,
        later=send_later_command(context.run_dir, tracking),
    )


def _record(context: RunContext, url: str, port: int, models: list[str]) -> ServerRecord:
    pid = os.getpid()
    return ServerRecord(
        pid=pid,
        process_start=process_start(pid) or 0,
        host=context.config.server.host,
        port=port,
        url=url,
        run_dir=str(context.run_dir.absolute()),
        started_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        version=__version__,
        models=models,
    )


def _configs(context: RunContext) -> dict[str, RunConfig]:
    """The configuration of every model that has one and goes with the settings of this run.

    An endpoint elsewhere is served only when it was chosen: nobody knows whether there is one.
    """
    configs = {}
    for name in context.model_names:
        if name != "local":
            with contextlib.suppress(LqmfError):
                config = context.compose(name)
                if config.backend.format != "openai":
                    configs[name] = config
    return configs


def _backend(context: RunContext) -> BackendConfig:
    """The settings for models without a configuration: those of this run, where they are not of one format only."""
    try:
        return context.compose("local", "model.name=any").backend
    except LqmfError:
        return BackendConfig()


def _announcement(url: str, models: list[str], *, with_key: bool) -> str:
    body = json.dumps(
        {"model": models[0] if models else "<name>", "messages": [{"role": "user", "content": "Hello"}]}
    )
    key = " -H 'Authorization: Bearer <key>'" if with_key else ""
    loaded = ", ".join(models) or "nothing yet, loaded on request"
    return (
        f"lqmf-runner serves {loaded} on {url} · try: "
        f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}' · more: {url}/docs"
    )

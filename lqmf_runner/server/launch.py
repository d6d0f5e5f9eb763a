"""The wiring of a server: its state, the application, the guards around it, and the process that serves it."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from ..config import RunConfig, ServerConfig
from ..config.texts import quoted
from ..install import install_line
from ..models import locate
from ..runs.context import RunContext
from ..ui.config import PageConfig, is_installed
from ..ui.mount import Page
from .app import Lifespan, create_app
from .asgi import App
from .guards.cors import CorsPolicy
from .guards.head import HeadAsGet
from .guards.hosts import HostPolicy
from .guards.keys import KeyRing
from .guards.limits import ClientQuota, Limits
from .guards.security import Security
from .page import FrontDoor
from .pool.catalog import create_catalog
from .pool.pool import ModelPool
from .process.announcement import announce
from .process.listen import bind, url_of
from .process.registry import STARTING, new_record
from .process.run import serve
from .routes import ROUTES
from .state import ServerState, create_state
from .versions.catalog import VersionedCatalog
from .versions.registry import Registry
from .versions.start import names_to_load, names_to_pin, shares_of_the_start
from .watch.access_log import AccessLog, AccessLogFile, open_access_log
from .watch.screen import shown_loads
from .watch.served import ServedLog
from .watch.session import create_session
from .watch.traces import TraceRecorder


def launch(context: RunContext, keys: KeyRing) -> int:
    """Serve the chosen models until a signal comes.

    Raises:
        UserInputError: the port is taken, or the host is not one of this machine's.
        LqmfError: a model of the start could not be loaded.
    """
    config, run_dir = context.config.server, context.run_dir
    chosen = [model for model in context.models if model.model.name]
    tracking = context.config.tracking
    shares = shares_of_the_start(chosen, config.split, tracking)
    preload = names_to_load([model.model.name for model in chosen], shares)
    with contextlib.closing(bind(config)) as sock:
        port, url = sock.getsockname()[1], url_of(sock, tls=config.certfile is not None)
        recorder, served = _recorder(config), ServedLog(run_dir, max_mb=config.access_log_mb)
        registry = Registry(tracking) if tracking.enabled else None
        state = create_state(
            config,
            _pool(context, chosen, registry, pin=names_to_pin(config.pin, shares)),
            ROUTES,
            watchers=[served, recorder] if recorder else [served],
            registry=registry,
            shares=shares,
        )
        session = create_session(
            config,
            tracking,
            state.metrics,
            recorder,
            run_dir=run_dir,
            command=context.command,
            resolved=context.resolved,
            models=preload,
        )
        record = new_record(config.host, port, url, run_dir, preload, config.certfile)
        record.enter(STARTING)
        page = _page(context, url, keys)
        missing = install_line("ui") if config.ui and page is None else ""
        on_ready = partial(
            announce, url, preload, with_key=keys.required, with_page=page is not None, install_page=missing
        )
        with (
            open_access_log(config, run_dir) as log,
            shown_loads(config.verbose),
            contextlib.suppress(KeyboardInterrupt),
        ):
            # The last one ends first: served.jsonl is written before the session is sent.
            lifespan: list[Lifespan] = [lambda app: session.running(), lambda app: served.running()]
            if page is not None:
                lifespan.append(lambda app: page.running())
            app = create_app(state, lifespan=lifespan, page=page)
            guarded = guard(FrontDoor(cast(App, app)) if page else cast(App, app), state, keys, log=log)
            uvloop.run(serve(guarded, sock, state, record, on_ready))
    return 0


def guard(app: App, state: ServerState, keys: KeyRing, *, log: AccessLogFile | None = None) -> App:
    """The application behind its guards. The last one is outermost, so refusals get an id and are logged."""
    config = state.config
    limited = Limits(
        HeadAsGet(app),
        lifecycle=state.lifecycle,
        errors=state.errors,
        quota=ClientQuota(config.limits),
        timeout_s=config.limits.request_timeout_s,
        max_body_bytes=int(config.max_body_mb * 1e6),
    )
    secured = Security(
        limited,
        keys=keys,
        hosts=HostPolicy(config.host, config.allowed_hosts),
        errors=state.errors,
        cors=CorsPolicy(config.cors_origins),
    )
    return AccessLog(secured, state.metrics.count_response, log.write if log else None)


def _page(context: RunContext, url: str, keys: KeyRing) -> Page | None:
    """The web page, which imports nothing before its first visitor. None if it is off or its extra is missing."""
    config = context.config
    if not config.server.ui or not is_installed():
        return None
    return Page(
        PageConfig(
            url=url,
            outputs=Path(config.output_dir),
            folder=context.run_dir,
            models_dir=f"[{','.join(map(quoted, config.models_dir))}]",
            tracking=config.tracking.enabled,
            keys_file=keys.file,
            with_key=keys.required,
            max_upload_bytes=int(config.server.max_body_mb * 1e6),
            certfile=config.server.certfile,
        )
    )


def _pool(
    context: RunContext, chosen: list[RunConfig], registry: Registry | None, *, pin: list[str]
) -> ModelPool:
    for (
        model
    ) in chosen:  # downloaded if necessary, so that an error appears in the command that starts the server
        locate(model.model, model.backend, model.models_dir)
    catalog = create_catalog(chosen, context.model_names, context.compose, context.config.models_dir)
    found = catalog if registry is None else VersionedCatalog(catalog, registry, context.config.models_dir)
    return ModelPool(found, dataclasses.replace(context.config.server, pin=pin))


def _recorder(config: ServerConfig) -> TraceRecorder | None:
    if not config.tracing:
        return None
    return TraceRecorder(per_minute=config.tracing_per_minute, content=config.tracing_content)

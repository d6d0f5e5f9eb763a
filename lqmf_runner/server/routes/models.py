"""The models: GET /models and /models/available, POST /models/{name}/load and /unload, and OpenAI's /v1/models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from litestar import Request

from ...errors import ConflictError
from ...openai_api.bodies.sampling import keep_alive_seconds
from ...openai_api.schemas import ModelCard, ModelList
from ..guards.security import require_admin
from ..pool.catalog import unknown_model
from ..pool.pool import ModelPool
from ..pool.pooled_model import READY, LoadedName, PooledModel
from ..route import MODEL, OPENAI, Body, route
from ..state import state_of
from .schemas import (
    AvailableModel,
    AvailableModels,
    LoadAnswer,
    LoadedModel,
    LoadedModels,
    LoadRequest,
    ScaleAnswer,
    ScaleRequest,
    UnloadAnswer,
)


@route("GET", "/models", tag="Models")
async def loaded_models(request: Request[Any, Any, Any]) -> LoadedModels:
    """The models that are loaded or being loaded."""
    state = state_of(request)
    await state.pool.refresh_memory()
    config = state.config
    return LoadedModels(
        [loaded_model(loaded) for loaded in state.pool.names],
        round(state.pool.memory_mb, 1),
        config.max_memory_mb,
        config.max_models,
    )


@route("GET", "/models/available", tag="Models")
async def available_models(request: Request[Any, Any, Any]) -> AvailableModels:
    """All models that a request can name."""
    pool = state_of(request).pool
    entries = await pool.catalog.entries()
    return AvailableModels(
        [
            AvailableModel(
                name=entry.name,
                format=entry.format,
                method=entry.method,
                bits=entry.bits,
                size_mb=round(entry.size_mb, 1),
                version=entry.version,
                loaded=pool.get(entry.name) is not None,
                problem=entry.problem,
            )
            for entry in entries
        ]
    )


@route(
    "POST",
    "/models/{name:str}/load",
    tag="Models",
    body=Body(LoadRequest, {"Keep it for ten minutes": {"keep_alive": "10m"}}),
    parameters={"name": MODEL},
    guards=[require_admin],
)
async def load_model(
    name: str, request: Request[Any, Any, Any], data: LoadRequest | None = None
) -> LoadAnswer:
    """Load a model and answer when it is loaded. A loaded model is not changed.

    For a name that several versions answer, all are loaded, and pinned or kept as the body says. If one cannot be
    loaded, those that were not loaded before are unloaded again, unless a request uses them.
    """
    state, data = state_of(request), data or LoadRequest()
    pool, targets = state.pool, await state.traffic.targets(name)
    ready = [model for model in pool.models if model.state == READY]
    models = await _load_all(pool, targets, data.pin, keep_alive_seconds(data.keep_alive))
    known = [model.engine.info for model in models if model.engine]
    return LoadAnswer(
        name=name,
        state=models[0].state,
        load_time_s=sum(info.load_time_s for info in known),
        memory_mb=round(sum(model.memory_mb for model in models), 1),
        already_loaded=all(any(model is each for each in ready) for model in models),  # under any name
        notes=[note for info in known for note in info.notes],
    )


@route(
    "POST",
    "/models/{name:str}/scale",
    tag="Models",
    body=Body(ScaleRequest, {"Two replicas": {"replicas": 2}}),
    parameters={"name": MODEL},
    guards=[require_admin],
)
async def scale_model(name: str, request: Request[Any, Any, Any], data: ScaleRequest) -> ScaleAnswer:
    """Give a model so many replicas and answer when the new ones are there; loads it first if need be.

    409 if it cannot have so many, 507 if they do not fit in the memory. No request is dropped.
    """
    state = state_of(request)
    target, *others = await state.traffic.targets(name)
    if others:
        raise ConflictError(
            f"{name} is answered by {', '.join([target, *others])}, each with replicas of its own",
            hint=f"scale each by itself: POST /models/{target}/scale",
        )
    model = await state.pool.scale(target, data.replicas)
    return ScaleAnswer(
        name=name, state=model.shown_state, memory_mb=round(model.memory_mb, 1), replicas=model.replicas
    )


@route("POST", "/models/{name:str}/unload", tag="Models", parameters={"name": MODEL}, guards=[require_admin])
async def unload_model(name: str, request: Request[Any, Any, Any], force: bool = False) -> UnloadAnswer:
    """Unload a model; 409 while it is answering, unless with `force`. One that is not loaded is no error.

    For a name that several versions answer, all are unloaded, or none if one is answering.
    """
    state = state_of(request)
    pool, targets = state.pool, await state.traffic.targets(name)
    models = [model for target in targets if (model := pool.get(target)) is not None]
    busy = sum(model.busy for model in models if not model.aliases)
    if busy and not force:
        raise ConflictError(
            f"{name} is answering {busy} requests", hint="wait for them, or unload with force=true"
        )
    load_time_s = sum(model.engine.info.load_time_s for model in models if model.engine)
    memory_mb = sum(model.memory_mb for model in models if not model.aliases)
    were_loaded = await asyncio.gather(*(pool.unload(target, force=force) for target in targets))
    return UnloadAnswer(
        name=name,
        state="unloaded",
        load_time_s=load_time_s,
        memory_mb=round(memory_mb, 1),
        was_loaded=any(were_loaded),
    )


@route("GET", "/v1/models", tag="OpenAI", errors=OPENAI)
async def openai_models(request: Request[Any, Any, Any]) -> ModelList:
    """All models that a request can name."""
    return ModelList(await _cards(request))


@route("GET", "/v1/models/{name:str}", tag="OpenAI", errors=OPENAI, parameters={"name": MODEL})
async def openai_model(name: str, request: Request[Any, Any, Any]) -> ModelCard:
    """One of these models, or a version of one."""
    cards = await _cards(request)
    for card in cards:
        if card.id == name:
            return card
    state = state_of(request)
    if await state.traffic.target(name) != name:
        return ModelCard(name, int(state.metrics.started_at))
    raise unknown_model(name, (card.id for card in cards))


async def _load_all(
    pool: ModelPool, targets: Sequence[str], pin: bool | None, keep_alive_s: float | None
) -> list[PooledModel]:
    """Load all of them. If one fails, unload those that were not loaded before."""
    before = {target: (model.pinned, model.keep_alive_s) for target in targets if (model := pool.get(target))}
    models: list[PooledModel] = []
    try:
        for target in targets:
            models.append(await pool.load(target, pin=pin, keep_alive_s=keep_alive_s))  # noqa: PERF401 - see except
    except Exception:
        for target, model in zip(targets, models, strict=False):  # those before the one that failed
            if target in before:
                model.pinned, model.keep_alive_s = before[target]
            else:
                with contextlib.suppress(ConflictError):  # a request uses it
                    await pool.unload(target)
        raise
    return models


def loaded_model(loaded: LoadedName) -> LoadedModel:
    """A model of the pool as the API shows it, under one of its names."""
    model = loaded.model
    info = model.engine.info if model.engine else None
    return LoadedModel(
        name=loaded.name,
        same_as=loaded.same_as,
        format=model.spec.format,
        method=info.method if info else "",
        bits=info.bits if info else 0.0,
        state=model.shown_state,
        fraction=round(model.fraction, 3),
        memory_mb=round(model.memory_mb, 1),
        context_tokens=info.n_ctx if info else 0,
        prompt_cache=model.prompt_cache,
        draft_model=info.draft_model if info else "",
        loaded_at=_date(model.loaded_at) if model.loaded_at else None,
        last_used=_date(model.last_used),
        requests=model.requests,
        active=model.busy,
        tokens_per_second=round(model.tokens_per_second, 2),
        pinned=model.pinned,
        replicas=model.replicas,
    )


async def _cards(request: Request[Any, Any, Any]) -> list[ModelCard]:
    state = state_of(request)
    entries = await state.pool.catalog.entries()
    created = int(state.metrics.started_at)
    names = dict.fromkeys([*state.traffic.names, *(entry.name for entry in entries if not entry.problem)])
    return [ModelCard(name, created) for name in names]


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

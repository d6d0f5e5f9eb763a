"""The models: GET /models and /models/available, POST /models/{name}/load and /unload, and OpenAI's /v1/models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request

from ...openai_api.bodies.sampling import keep_alive_seconds
from ...openai_api.schemas import ModelCard, ModelList
from ..guards.security import require_admin
from ..pool.catalog import unknown_model
from ..pool.pooled_model import READY, PooledModel
from ..route import MODEL, OPENAI, Body, route
from ..state import state_of
from .schemas import (
    AvailableModel,
    AvailableModels,
    LoadAnswer,
    LoadedModel,
    LoadedModels,
    LoadRequest,
    UnloadAnswer,
)


@route("GET", "/models", tag="Models")
async def loaded_models(request: Request[Any, Any, Any]) -> LoadedModels:
    """The models that are loaded or being loaded."""
    state = state_of(request)
    await state.pool.refresh_memory()
    config = state.config
    return LoadedModels(
        [loaded_model(model) for model in state.pool.models],
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
    """Load a model and answer when it is loaded; one that is loaded already stays as it is."""
    pool, data = state_of(request).pool, data or LoadRequest()
    already = (before := pool.get(name)) is not None and before.state == READY
    model = await pool.load(name, pin=data.pin, keep_alive_s=keep_alive_seconds(data.keep_alive))
    info = model.engine.info if model.engine else None
    return LoadAnswer(
        name=name,
        state=model.state,
        load_time_s=info.load_time_s if info else 0.0,
        memory_mb=round(model.memory_mb, 1),
        already_loaded=already,
        notes=list(info.notes) if info else [],
    )


@route("POST", "/models/{name:str}/unload", tag="Models", parameters={"name": MODEL}, guards=[require_admin])
async def unload_model(name: str, request: Request[Any, Any, Any], force: bool = False) -> UnloadAnswer:
    """Unload a model; 409 while it is answering, unless with `force`. One that is not loaded is no error."""
    pool = state_of(request).pool
    model = pool.get(name)
    info = model.engine.info if model and model.engine else None
    memory_mb = model.memory_mb if model else 0.0
    was_loaded = await pool.unload(name, force=force)
    return UnloadAnswer(
        name=name,
        state="unloaded",
        load_time_s=info.load_time_s if info else 0.0,
        memory_mb=round(memory_mb, 1),
        was_loaded=was_loaded,
    )


@route("GET", "/v1/models", tag="OpenAI", errors=OPENAI)
async def openai_models(request: Request[Any, Any, Any]) -> ModelList:
    """All models that a request can name."""
    return ModelList(await _cards(request))


@route("GET", "/v1/models/{name:str}", tag="OpenAI", errors=OPENAI, parameters={"name": MODEL})
async def openai_model(name: str, request: Request[Any, Any, Any]) -> ModelCard:
    """One of them."""
    for card in await _cards(request):
        if card.id == name:
            return card
    raise unknown_model(name)


def loaded_model(model: PooledModel) -> LoadedModel:
    """A model of the pool as the API shows it."""
    info = model.engine.info if model.engine else None
    return LoadedModel(
        name=model.name,
        format=model.spec.format,
        method=info.method if info else "",
        bits=info.bits if info else 0.0,
        state=model.state,
        fraction=round(model.fraction, 3),
        memory_mb=round(model.memory_mb, 1),
        context_tokens=info.n_ctx if info else 0,
        loaded_at=_date(model.loaded_at) if model.loaded_at else None,
        last_used=_date(model.last_used),
        requests=model.requests,
        active=model.busy,
        tokens_per_second=round(model.tokens_per_second, 2),
        pinned=model.pinned,
    )


async def _cards(request: Request[Any, Any, Any]) -> list[ModelCard]:
    state = state_of(request)
    entries = await state.pool.catalog.entries()
    created = int(state.metrics.started_at)
    return [ModelCard(entry.name, created) for entry in entries if not entry.problem]


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

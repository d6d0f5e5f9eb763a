"""The routes: a file for each group of them, and a line here for each."""

from __future__ import annotations

from litestar.handlers import HTTPRouteHandler

from . import (
    decisions,
    embeddings,
    models,
    native_chat,
    openai_chat,
    openai_completions,
    statistics,
    status,
    tokens,
)

ROUTES: tuple[HTTPRouteHandler, ...] = (
    status.status,
    status.health,
    status.ready,
    models.loaded_models,
    models.available_models,
    models.load_model,
    models.unload_model,
    native_chat.chat,
    native_chat.forget_session,
    models.openai_models,
    models.openai_model,
    openai_chat.chat_completions,
    openai_completions.completions,
    decisions.system_one,
    decisions.decide,
    embeddings.embeddings,
    tokens.tokenize,
    tokens.detokenize,
    statistics.prometheus_metrics,
    statistics.stats,
)

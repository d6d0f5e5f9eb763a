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
    openai_responses,
    statistics,
    status,
    tokens,
    versions,
)
from .ollama import chat as ollama_chat
from .ollama import embeddings as ollama_embeddings
from .ollama import models as ollama_models

ROUTES: tuple[HTTPRouteHandler, ...] = (
    status.status,
    status.health,
    status.ready,
    models.loaded_models,
    models.available_models,
    models.load_model,
    models.scale_model,
    models.unload_model,
    versions.served_versions,
    versions.available_versions,
    versions.promote_model,
    versions.rollback_model,
    versions.split_model,
    native_chat.chat,
    native_chat.forget_session,
    models.openai_models,
    models.openai_model,
    openai_chat.chat_completions,
    openai_completions.completions,
    openai_responses.responses,
    openai_responses.kept_response,
    openai_responses.delete_response,
    openai_responses.cancel_response,
    openai_responses.input_items,
    decisions.system_one,
    decisions.decide,
    embeddings.embeddings,
    tokens.tokenize,
    tokens.detokenize,
    ollama_chat.chat,
    ollama_chat.generate,
    ollama_embeddings.embed,
    ollama_embeddings.embeddings,
    ollama_models.tags,
    ollama_models.running,
    ollama_models.show,
    ollama_models.version,
    ollama_models.pull,
    ollama_models.push,
    ollama_models.create,
    ollama_models.copy,
    ollama_models.delete,
    ollama_models.upload,
    statistics.prometheus_metrics,
    statistics.stats,
)

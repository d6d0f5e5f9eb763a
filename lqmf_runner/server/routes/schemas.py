"""The bodies and answers of the native routes. Sizes in MB are 10^6 bytes, times are seconds, dates ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ...openai_api.schemas import (
    MAX_MESSAGES,
    ChatMessage,
    Constrained,
    KeepAlive,
    MaxTokens,
    Probability,
    RepetitionPenalty,
    Seed,
    StopList,
    Temperature,
    TopK,
    TopP,
)
from ...types import PromptCacheUse, ReplicaState

SessionId = Annotated[
    str, Meta(min_length=1, max_length=128, description="Keeps the conversation on the server.")
]


class ChatRequest(Constrained, kw_only=True):
    """The body of POST /models/{name}/chat: either `message`, or `messages`."""

    message: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    system: str | None = None
    max_tokens: MaxTokens = 512
    temperature: Temperature = 0.7
    top_p: TopP = 0.95
    top_k: TopK = 0
    min_p: Probability = 0.0
    seed: Seed | None = None
    stop: str | StopList | None = None
    repeat_penalty: RepetitionPenalty = 1.0
    stream: bool = False
    session_id: SessionId | None = None
    keep_alive: KeepAlive = None


class ChatAnswer(msgspec.Struct, kw_only=True):
    """The answer. Times are seconds; `tokens_per_second` counts the tokens after the first.

    `version`: of the weights that answered, `name@3` or their digest; empty of an endpoint. `reasoning_content`: the
    thoughts of a model that thinks.
    """

    response: str
    model: str
    version: str
    tokens_generated: int
    prompt_tokens: int
    cached_tokens: int
    time_taken: float
    time_to_first_token: float
    tokens_per_second: float
    finish_reason: str
    session_id: str | None
    done: bool
    reasoning_content: str | UnsetType = UNSET


class Forgotten(msgspec.Struct):
    """The session that was deleted."""

    session_id: str


class LoadRequest(msgspec.Struct, kw_only=True):
    """The body of POST /models/{name}/load, which may be left out."""

    pin: bool | None = None
    keep_alive: KeepAlive = None


class LoadAnswer(msgspec.Struct, kw_only=True):
    """A loaded model. `load_time_s` is the duration of its load, whenever that was."""

    name: str
    state: str
    load_time_s: float
    memory_mb: float
    already_loaded: bool
    notes: list[str]


class ScaleRequest(msgspec.Struct, kw_only=True):
    """The body of POST /models/{name}/scale."""

    replicas: Annotated[int, Meta(ge=1, le=1000, description="How many there are to be.")]


class ScaleAnswer(msgspec.Struct, kw_only=True):
    """A model with its replicas. Those in the state "draining" end after their requests."""

    name: str
    state: str
    memory_mb: float
    replicas: list[ReplicaState]


class UnloadAnswer(msgspec.Struct, kw_only=True):
    """A model that is not loaded now. `memory_mb` is the memory that it released."""

    name: str
    state: str
    load_time_s: float
    memory_mb: float
    was_loaded: bool


class LoadedModel(msgspec.Struct, kw_only=True):
    """A model that is loaded or being loaded.

    `state`: "loading", "ready", "restarting" (after a crash). `fraction` of the load that is done, 0 to 1.
    `replicas`: the engines that its requests are spread over; empty if it is one engine.
    `context_tokens`: most tokens of a prompt and its answer together; 0 if it is not known.
    `same_as`: the name of the model that it is too, with which it shares one load and its memory.
    `prompt_cache`: the prompts that it keeps in main memory, a part of `memory_mb`.
    `draft_model`: the one that drafts for it and what that is, a part of `memory_mb` too; empty if there is none.
    """

    name: str
    same_as: str | None
    format: str
    method: str
    bits: float
    state: str
    fraction: float
    memory_mb: float
    context_tokens: int
    prompt_cache: PromptCacheUse
    draft_model: str
    loaded_at: datetime | None
    last_used: datetime
    requests: int
    active: int
    tokens_per_second: float
    pinned: bool
    replicas: list[ReplicaState] = []


class LoadedModels(msgspec.Struct):
    """All of them, the memory they use, and the limits."""

    models: list[LoadedModel]
    memory_mb: float
    max_memory_mb: float
    max_models: int


class AvailableModel(msgspec.Struct, kw_only=True):
    """An available model. `problem` is the reason why it cannot be used; empty if it can."""

    name: str
    format: str
    method: str
    bits: float
    size_mb: float
    version: str
    loaded: bool
    problem: str


class AvailableModels(msgspec.Struct):
    """All models that a request can name."""

    models: list[AvailableModel]


class ServerStatus(msgspec.Struct):
    """The server at a glance."""

    status: str
    name: str
    version: str
    uptime: float
    loaded_models: list[str]
    docs: str


class Health(msgspec.Struct):
    """`status` is "ok"."""

    status: str


class Readiness(msgspec.Struct):
    """`status` is "ready"."""

    status: str
    models: dict[str, str]

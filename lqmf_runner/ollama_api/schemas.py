"""What Ollama's routes take and give. Durations are nanoseconds, sizes bytes, dates ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..openai_api.schemas import (
    MAX_MESSAGES,
    AnswerBody,
    ChatMessage,
    ContentLogprob,
    GivenTool,
    KeepAlive,
    StopList,
    TopLogprobs,
)

TaggedName = Annotated[
    str, Meta(min_length=1, description="A model's name; `:latest` at its end says nothing.")
]
Format = Annotated[
    Literal["json", ""] | dict[str, Any] | None,
    Meta(description="What the answer must be: 'json' for an object, or a JSON schema."),
]
Think = Annotated[
    bool | Literal["low", "medium", "high", "max"] | None,
    Meta(description="Whether the model is to think, and how much; its thoughts come apart from the text."),
]


class Options(AnswerBody, kw_only=True):
    """The settings of an answer that are honoured. `bodies.options_of` says what becomes of others."""

    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    num_predict: Annotated[
        int, Meta(ge=-(2**31), le=2**31 - 1, description="Most tokens; 0 and less: no limit.")
    ] = -1
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    repeat_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = -1
    stop: str | StopList | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.8
    top_k: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] = 40
    top_p: Annotated[float, Meta(ge=0, le=1)] = 0.9


GivenOptions = Annotated[
    dict[str, Any] | None,
    Meta(
        description="Settings of the answer.",
        extra_json_schema={
            "properties": msgspec.json.schema(Options)["$defs"]["Options"]["properties"],
        },
    ),
]


class Turn(ChatMessage):
    """One turn of the conversation. `tool_name`: the tool whose answer it is. Images are refused."""

    tool_name: str | None = None
    images: list[Any] | None = None


class Asking(AnswerBody, kw_only=True):
    """What chat and generate have in common.

    `shift` and `truncate` are taken and change nothing: a prompt that does not fit is refused whatever they say.
    """

    model: TaggedName
    format: Format = None
    keep_alive: KeepAlive = None
    logprobs: bool | None = None
    options: GivenOptions = None
    shift: bool | None = None
    stream: bool | None = None
    think: Think = None
    top_logprobs: TopLogprobs | None = None
    truncate: bool | None = None


class OllamaChatRequest(Asking, kw_only=True):
    """The body of POST /api/chat. Without messages the model is loaded, or unloaded with `keep_alive: 0`."""

    messages: Annotated[list[Turn], Meta(max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[GivenTool], Meta(max_length=128)] | None = None


class GenerateRequest(Asking, kw_only=True):
    """The body of POST /api/generate. Without a prompt the model is loaded, or unloaded with `keep_alive: 0`.

    With `raw` the prompt goes to the model as it is, else as a user's message.
    """

    prompt: str = ""
    system: str = ""
    raw: bool = False
    context: list[int] | None = None
    images: list[Any] | None = None
    suffix: str | None = None
    template: str | None = None


class EmbedRequest(AnswerBody, kw_only=True):
    """The body of POST /api/embed."""

    model: TaggedName
    input: str | Annotated[list[str], Meta(max_length=2048)] | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive = None
    options: GivenOptions = None
    truncate: bool | None = None


class OldEmbedRequest(AnswerBody, kw_only=True):
    """The body of POST /api/embeddings."""

    model: TaggedName
    prompt: str = ""
    keep_alive: KeepAlive = None
    options: GivenOptions = None


class NamedModel(msgspec.Struct, kw_only=True):
    """A body that names a model, under its newer or its older field."""

    model: str = ""
    name: str = ""


class PullRequest(NamedModel, kw_only=True):
    """The body of POST /api/pull."""

    stream: bool | None = None


class CalledFunction(msgspec.Struct):
    """A function and the arguments of its call, as an object."""

    name: str
    arguments: dict[str, Any]


class Called(msgspec.Struct):
    """A call of a tool."""

    id: str
    function: CalledFunction


class AnswerTurn(msgspec.Struct, kw_only=True):
    """The model's turn, or a piece of it."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[Called] | UnsetType = UNSET


class Figures(msgspec.Struct, kw_only=True):
    """What an answer took, in tokens and nanoseconds.

    `load_duration`: until the model was there. `prompt_eval_duration`: of the prompt, to the first token.
    `eval_duration`: from the first token to the last.
    """

    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class OllamaChatAnswer(Figures, kw_only=True):
    """The answer of POST /api/chat, or a line of its stream. The last line has `done_reason` and the figures."""

    model: str
    created_at: datetime
    message: AnswerTurn
    done: bool
    done_reason: str | UnsetType = UNSET
    logprobs: list[ContentLogprob] | UnsetType = UNSET


class GenerateAnswer(Figures, kw_only=True):
    """The answer of POST /api/generate, or a line of its stream."""

    model: str
    created_at: datetime
    response: str
    done: bool
    done_reason: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    logprobs: list[ContentLogprob] | UnsetType = UNSET


class EmbedAnswer(msgspec.Struct, kw_only=True):
    """The answer of POST /api/embed: a vector of length 1 for each text."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OldEmbedAnswer(msgspec.Struct):
    """The answer of POST /api/embeddings."""

    embedding: list[float]


class Version(msgspec.Struct):
    """The version of Ollama whose API this is."""

    version: str


class Progress(msgspec.Struct):
    """How far a pull is."""

    status: str


class Details(msgspec.Struct, kw_only=True):
    """What a model is."""

    parent_model: str = ""
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(msgspec.Struct, kw_only=True):
    """A model that a request can name."""

    name: str
    model: str
    modified_at: datetime
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct):
    """The answer of GET /api/tags."""

    models: list[Tag]


class Running(msgspec.Struct, kw_only=True):
    """A model that is loaded. `expires_at`: when it is unloaded if nobody asks it; the year 9999 is never."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: datetime
    size_vram: int
    context_length: int


class RunningModels(msgspec.Struct):
    """The answer of GET /api/ps."""

    models: list[Running]


class Shown(msgspec.Struct, kw_only=True):
    """The answer of POST /api/show. `capabilities`: "completion" or "embedding", "tools", "thinking"."""

    license: str = ""
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: datetime


class OllamaError(msgspec.Struct):
    """An error on Ollama's routes."""

    error: str

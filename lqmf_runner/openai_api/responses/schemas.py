"""What POST /v1/responses takes and gives. Beyond OpenAI it takes the fields of `Sampled`, as the chat does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..schemas import MAX_MESSAGES, ContentLogprob, MaxTokens, ReasoningEffort, Sampled, TopLogprobs

MetadataText = Annotated[str, Meta(max_length=512)]
MetadataKey = Annotated[str, Meta(max_length=64)]
Metadata = Annotated[
    dict[MetadataKey, MetadataText], Meta(max_length=16, description="Given back with the response.")
]
Summary = Literal["auto", "concise", "detailed"]
Status = Literal["in_progress", "completed", "incomplete", "failed"]


class TextFormat(msgspec.Struct, forbid_unknown_fields=True):
    """What the answer must be: any text, a JSON object, or JSON that matches `schema`, which is always strict."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None
    description: str | None = None


class TextSettings(msgspec.Struct, forbid_unknown_fields=True):
    """How the answer's text is to be. Of `verbosity` only "medium" is supported."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningSettings(msgspec.Struct, forbid_unknown_fields=True):
    """`effort` is handed to the model's chat template. Thoughts are given whole, whichever summary is asked for."""

    effort: ReasoningEffort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None


Item = Annotated[
    dict[str, Any],
    Meta(
        description="A message, a function_call, a function_call_output, a reasoning item, or an item_reference.",
        extra_json_schema={
            "properties": {
                "type": {"type": "string"},
                "role": {"enum": ["user", "assistant", "system", "developer"]},
                "content": {"type": ["string", "array"]},
            },
        },
    ),
]
ResponseTool = Annotated[
    dict[str, Any],
    Meta(
        description="A function that the model may call (`parameters` is a JSON schema), or a namespace with `tools`. "
        "A web_search is accepted if its `external_web_access` is false, and finds nothing.",
        extra_json_schema={
            "required": ["type"],
            "properties": {
                "type": {"enum": ["function", "namespace", "web_search"]},
                "name": {"type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,64}$"},
                "description": {"type": ["string", "null"]},
                "parameters": {"type": ["object", "null"]},
                "strict": {"type": ["boolean", "null"]},
                "tools": {"type": "array", "items": {"type": "object"}},
            },
        },
    ),
]


class ResponseRequest(Sampled, kw_only=True):
    """The body of POST /v1/responses."""

    input: str | Annotated[list[Item], Meta(max_length=MAX_MESSAGES)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: (
        Annotated[str, Meta(description="A stored response, whose conversation goes on.")] | None
    ) = None
    reasoning: ReasoningSettings | None = None
    store: (
        Annotated[bool, Meta(description="Keep the response for later requests; true by default.")] | None
    ) = None
    text: TextSettings | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=128)] | None = None
    top_logprobs: TopLogprobs | None = None
    truncation: Literal["auto", "disabled"] | None = None


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """A text of an answer."""

    text: str = ""
    annotations: list[dict[str, Any]] = []
    logprobs: list[ContentLogprob] = []


class OutputMessage(msgspec.Struct, tag_field="type", tag="message"):
    """A message of the model."""

    id: str
    status: Status
    content: list[OutputText] = []
    role: Literal["assistant"] = "assistant"


class FunctionCallItem(msgspec.Struct, tag_field="type", tag="function_call"):
    """A call that the model makes; `call_id` stands in the function_call_output that answers it.

    `namespace` is that of the function, if it has one.
    """

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status
    namespace: str | UnsetType = UNSET


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """Thoughts."""

    text: str = ""


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    """The model's thoughts before its answer. They are in `content`; there is no summary."""

    id: str
    status: Status
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText] = []


OutputItem = OutputMessage | FunctionCallItem | ReasoningItem


class InputTokensDetails(msgspec.Struct):
    """`cached_tokens` of the input were not computed again. Nothing is ever charged for writing the cache."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct):
    """Thoughts are not counted separately."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct):
    """Why an answer ends before its end."""

    reason: Literal["max_output_tokens"]


class ResponseReasoning(msgspec.Struct):
    """The reasoning that was asked for."""

    effort: str | None = None
    summary: Summary | None = None


class ResponseText(msgspec.Struct):
    """The format that was asked for, as it was sent."""

    format: dict[str, Any]
    verbosity: str = "medium"


class Response(msgspec.Struct, kw_only=True):
    """A response. `status` is "incomplete" if `max_output_tokens` or the context has cut the answer."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    completed_at: int | None = None
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: ResponseReasoning
    service_tier: str = "default"
    store: bool = True
    temperature: float
    text: ResponseText
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = []
    top_logprobs: int = 0
    top_p: float
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, str] = {}


class DeletedResponse(msgspec.Struct):
    """The answer of DELETE /v1/responses/{id}."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputItems(msgspec.Struct):
    """The answer of GET /v1/responses/{id}/input_items."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"

"""What OpenAI's routes take and give. Ranges are OpenAI's own. `bodies/fields.py` decides about all other fields.

Beyond OpenAI, as vLLM has them: `top_k`, `min_p`, `repetition_penalty`, `ignore_eos`, `min_tokens`,
`chat_template_kwargs`, `continue_final_message`, `add_generation_prompt`, `structured_outputs` and its older names
`guided_json`, `guided_regex` and `guided_choice`. `keep_alive` and `format` are Ollama's, `json_schema` is llama.cpp's
and SGLang's, `regex` is SGLang's, `prefix` in a message is Mistral's and DeepSeek's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_MESSAGES = 16384  # more are useless in any context, and each costs time in the front
Temperature = Annotated[float, Meta(ge=0, le=2, description="0 is greedy.")]
Probability = Annotated[float, Meta(ge=0, le=1)]
TopP = Annotated[float, Meta(ge=0, le=1, description="Nucleus sampling; 1 is off.")]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
MaxTokens = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="Most tokens to generate; -1 is as many as fit.")
]
NChoices = Annotated[int, Meta(ge=1, le=128, description="Answers to the same prompt.")]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="Same seed, same text; -1 draws one.")]
TopK = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="Keep the k most likely tokens; 0 and -1 are off.")
]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=100)]
ReasoningEffort = Annotated[
    str, Meta(description="Handed to the model's chat template; 'none' is no thinking.")
]
SeparateReasoning = Annotated[
    bool, Meta(description="Whether a model's thoughts are separated from its text; true by default.")
]
StopList = Annotated[list[str], Meta(max_length=128)]
ModelName = Annotated[str, Meta(description="A name that GET /v1/models lists.")]
KeepAlive = Annotated[
    float | str | None,
    Meta(description="Unload the model when it was idle for so long: seconds, or '5m'; negative is never."),
]


class AnswerBody(msgspec.Struct, kw_only=True):
    """A body that asks a model. Unknown fields are refused, unless they change nothing."""


class FunctionCall(msgspec.Struct):
    """A call of a function; the arguments are an object, written as JSON."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct):
    """A call that an assistant turn made."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class StoredFunction(msgspec.Struct):
    """What an earlier turn called; arguments that are no JSON object are passed on as text."""

    name: str
    arguments: str | dict[str, Any] = ""


class StoredCall(msgspec.Struct):
    """A call in an earlier turn, which may have come without an id."""

    function: StoredFunction
    id: str | None = None
    type: Literal["function"] = "function"


class ContentPart(msgspec.Struct):
    """A part of a message. Only text is supported."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    """One turn of the conversation. What an assistant's may be besides is in `bodies/history.py`.

    With `prefix` in the last turn, which is an assistant's, the answer goes on from its text.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[StoredCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    prefix: bool | None = None


class StreamOptions(msgspec.Struct):
    """`include_usage` asks for a last chunk with the token counts."""

    include_usage: bool | None = None


class JSONSchemaFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The schema that the answer must match; `strict` is always so here."""

    name: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The form of the answer: any text, a JSON object, or JSON that matches a schema.

    The schema stands in `json_schema`, or in `schema`, as llama.cpp has it.
    """

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchemaFormat | None = None
    schema: dict[str, Any] | bool | None = None


Choice = Annotated[list[str], Meta(min_length=1)]


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """What the answer must match, as vLLM has it; exactly one of them. `grammar` is in Lark's syntax."""

    json: dict[str, Any] | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: Choice | None = None
    disable_fallback: bool | None = None


class FunctionDefinition(msgspec.Struct):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool that the model may use."""

    function: FunctionDefinition
    type: Literal["function"] = "function"


class OfferedTools(msgspec.Struct):
    """The tools of a request, checked."""

    tools: list[Tool]


# A template gets a tool exactly as it was sent: with unknown fields, in the sender's order.
GivenTool = Annotated[
    dict[str, Any],
    Meta(
        description="A function that the model may call; `parameters` is a JSON schema.",
        extra_json_schema={
            "required": ["function"],
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,64}$"},
                        "description": {"type": ["string", "null"]},
                        "parameters": {"type": ["object", "null"]},
                        "strict": {"type": ["boolean", "null"]},
                    },
                },
            },
        },
    ),
]


class FunctionName(msgspec.Struct):
    """The name of a function."""

    name: str


class NamedToolChoice(msgspec.Struct):
    """The function to call."""

    function: FunctionName
    type: Literal["function"] = "function"


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class Constrained(AnswerBody, kw_only=True):
    """What the answer must match; one of these."""

    format: Literal["json"] | dict[str, Any] | None = None
    guided_choice: Choice | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    json_schema: dict[str, Any] | str | None = None
    regex: str | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None


class Sampled(Constrained, kw_only=True):
    """The common fields of chat and completions."""

    model: ModelName
    frequency_penalty: Penalty | None = None
    ignore_eos: bool | None = None
    keep_alive: KeepAlive = None
    logit_bias: dict[int, Bias] | None = None
    min_p: Probability | None = None
    min_tokens: Annotated[int, Meta(ge=0, description="Only beside ignore_eos.")] | None = None
    n: NChoices | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Seed | None = None
    stop: str | StopList | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    user: str | None = None


class ChatCompletionRequest(Sampled, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    logprobs: bool | None = None
    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    separate_reasoning: SeparateReasoning | None = None
    tool_choice: ToolChoice | None = None
    tools: Annotated[list[GivenTool], Meta(max_length=128)] | None = None
    top_logprobs: TopLogprobs | None = None


class CompletionRequest(Sampled, kw_only=True):
    """The body of POST /v1/completions. `prompt`: a text, a list of texts, token ids, or a list of such lists."""

    prompt: str | list[str | int | list[int]]
    best_of: NChoices | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    max_tokens: MaxTokens | None = 16
    suffix: str | None = None


class PromptTokensDetails(msgspec.Struct):
    """`cached_tokens` of the prompt were not computed again."""

    cached_tokens: int = 0


class UsageCounts(msgspec.Struct):
    """Token counts; the completion's are those of all choices together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(msgspec.Struct):
    """An alternative to the chosen token."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(msgspec.Struct):
    """A chosen token."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct):
    """Log-probabilities of the answer's tokens."""

    content: list[ContentLogprob]
    refusal: None = None


class AnswerMessage(msgspec.Struct):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One of the answers. `finish_reason`: "stop", "length" or "tool_calls"."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str


class ChatCompletion(msgspec.Struct):
    """The answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageCounts
    system_fingerprint: str | None = None


class CompletionLogprobs(msgspec.Struct):
    """Log-probabilities of a text's tokens, each a list of the same length; null for the first of a prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One of the answers. `finish_reason`: "stop" or "length"."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: str


class TextCompletion(msgspec.Struct):
    """The answer of POST /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageCounts
    system_fingerprint: str | None = None


class ModelCard(msgspec.Struct):
    """A model, as OpenAI's API lists it."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "lqmf-runner"


class ModelList(msgspec.Struct):
    """The answer of GET /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"

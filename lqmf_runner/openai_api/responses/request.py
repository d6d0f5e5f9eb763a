"""The generation request from the body of POST /v1/responses, made of the same parts as the chat's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...errors import FieldError
from ...types import GenerationRequest
from ..bodies.answer_constraint import answer_constraint, or_calls
from ..bodies.messages import to_message
from ..bodies.sampling import OPENAI_DEFAULTS, most_tokens, sampling_params
from ..schemas import JSONSchemaFormat, ResponseFormat
from .items import Item, turns
from .schemas import ResponseRequest, TextFormat
from .tools import Function, offer

LOGPROBS = "message.output_text.logprobs"
# Other values belong to unsupported tools and media, or are in the response anyway.
_INCLUDES = (
    LOGPROBS,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)


def generation_request(
    data: ResponseRequest, functions: Sequence[Function], items: Sequence[Item], n_kept: int
) -> GenerationRequest:
    """What to generate.

    Args:
        functions: those of the request's tools.
        items: the conversation, the first `n_kept` of earlier requests.

    Raises:
        FieldError: a field is not supported, or fields do not go together.
    """
    _refuse(data)
    tools, call = offer(functions, data)
    constraint = answer_constraint(_with_format(data))
    if call and constraint:
        raise FieldError("a required tool call cannot have a text.format", param="tool_choice")
    messages = turns(items, data.instructions, n_kept)
    if not messages:
        raise FieldError("'input' is required: a text, or a list of items", param="input")
    effort = data.reasoning.effort if data.reasoning else None
    template_options = {} if effort is None else {"reasoning_effort": effort}
    return GenerationRequest(
        messages=tuple(to_message(message, index) for index, message in enumerate(messages)),
        sampling=sampling_params(
            data,
            OPENAI_DEFAULTS,
            max_tokens=most_tokens("max_output_tokens", data.max_output_tokens, OPENAI_DEFAULTS.max_tokens),
            logprobs=(data.top_logprobs or 0) if wants_logprobs(data) else None,
            constraint=call or or_calls(constraint, tools),
        ),
        tools=tools,
        template_options=template_options | (data.chat_template_kwargs or {}),
    )


def wants_logprobs(data: ResponseRequest) -> bool:
    """Whether the answer's texts have log-probabilities."""
    return bool(data.top_logprobs) or LOGPROBS in (data.include or ())


def _refuse(data: ResponseRequest) -> None:
    if data.n not in (None, 1):
        raise FieldError("a response is one answer", param="n", hint="POST /v1/chat/completions takes n")
    if data.truncation == "auto":
        raise FieldError(
            "truncation=auto is not supported",
            param="truncation",
            hint="a conversation that is too long for the context is refused; leave out its oldest items",
        )
    if data.text and data.text.verbosity not in (None, "medium"):
        raise FieldError(
            "a verbosity is not supported", param="text.verbosity", hint="ask for it in the instructions"
        )
    for index, name in enumerate(data.include or ()):
        if name not in _INCLUDES:
            raise FieldError(
                f"there is no {name[:60]!r} to include",
                param=f"include[{index}]",
                hint=f"known: {', '.join(_INCLUDES)}",
            )


def _with_format(data: ResponseRequest) -> ResponseRequest:
    """The body with the format of its text where chats have it."""
    given = data.text.format if data.text else None
    if given is None or given.type == "text":
        return data
    if data.response_format is not None:
        raise FieldError("text.format and response_format exclude each other", param="text.format")
    if given.type == "json_schema" and given.schema is None:
        raise FieldError("'text.format.schema' is required", param="text.format.schema")
    return msgspec.structs.replace(data, response_format=_response_format(given))


def _response_format(given: TextFormat) -> ResponseFormat:
    if given.type != "json_schema":
        return ResponseFormat(given.type)
    return ResponseFormat(given.type, JSONSchemaFormat(given.name, given.schema))

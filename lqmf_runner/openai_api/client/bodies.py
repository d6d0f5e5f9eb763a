"""Bodies that are sent to an endpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidRequestError
from ...types import Constraint, GenerationRequest, Message, SamplingParams

_EXTENSIONS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False}


def generation_body(request: GenerationRequest, model: str) -> tuple[str, dict[str, Any]]:
    """The path and the body that ask for a streamed answer.

    Raises:
        InvalidRequestError: the prompt is empty, or the constraint cannot be sent.
    """
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= sampling_body(request.sampling)
    n_top = request.sampling.logprobs
    if request.messages is not None:
        if n_top is not None:
            body |= {"logprobs": True, "top_logprobs": n_top}
        body["messages"] = [message_body(message) for message in request.messages]
        if request.tools:
            body["tools"] = list(request.tools)
        options = dict(request.template_options)
        if "reasoning_effort" in options:  # a field of OpenAI's, which knows no others for templates
            body["reasoning_effort"] = options.pop("reasoning_effort")
        if options:
            body["chat_template_kwargs"] = options
        if not request.add_generation_prompt:
            body["add_generation_prompt"] = False
        if request.continue_final_message:
            body["continue_final_message"] = True
        return "/chat/completions", body
    prompt = request.prompt if request.prompt is not None else list(request.prompt_tokens or ())
    if not prompt:
        raise InvalidRequestError("the prompt is empty", hint="send at least one token")
    if n_top is not None:
        body["logprobs"] = n_top
    return "/completions", body | {"prompt": prompt}


def score_body(tokens: Sequence[int] | str, model: str, *, top: int) -> dict[str, Any]:
    """A completion of one token that echoes the log-probabilities of its prompt."""
    prompt = tokens if isinstance(tokens, str) else list(tokens)
    sampling = {"max_tokens": 1, "temperature": 0}
    return {"model": model, "prompt": prompt, "echo": True, "logprobs": max(top, 1), **sampling}


def embeddings_body(texts: Sequence[str | Sequence[int]], model: str) -> dict[str, Any]:
    """A request for the vectors of texts, each a string or its token ids."""
    return {"model": model, "input": [text if isinstance(text, str) else list(text) for text in texts]}


def tokenize_body(text: str, model: str, *, special: bool) -> dict[str, Any]:
    """A request for token ids, with the names of both vLLM and llama-server."""
    both = {"prompt": text, "content": text, "add_special_tokens": special, "add_special": special}
    return {"model": model, **both}


def message_body(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it: the arguments of a tool call are JSON text there."""
    content = message.content if message.content is not None or message.tool_calls else ""
    body: dict[str, Any] = {"role": message.role, "content": content}
    if message.name is not None:
        body["name"] = message.name
    if message.reasoning_content is not None:
        body["reasoning_content"] = message.reasoning_content
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call_body(call) for call in message.tool_calls]
    return body


def _tool_call_body(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return call | {"function": function}


def sampling_body(params: SamplingParams) -> dict[str, Any]:
    """OpenAI's fields always; the extensions of vLLM and llama-server only if they are set."""
    body: dict[str, Any] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
    }
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.seed is not None:
        body["seed"] = params.seed
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
    if params.constraint is not None:
        body |= _constraint_body(params.constraint)
    for name, default in _EXTENSIONS.items():
        if (value := getattr(params, name)) != default:
            body[name] = value
    return body


def _constraint_body(constraint: Constraint) -> dict[str, Any]:
    """JSON constraints in OpenAI's form, the other kinds in vLLM's. An endpoint may ignore unknown fields."""
    if constraint.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    value = constraint.value
    try:
        if constraint.kind == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": json.loads(value)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if constraint.kind == "choice":
            return {"structured_outputs": {"choice": json.loads(value)}}
    except ValueError as error:
        raise InvalidRequestError(f"the constraint is not JSON: {error}") from None
    names = {"regex": "regex", "lark": "grammar"}
    if constraint.kind not in names:
        raise InvalidRequestError(f"unknown kind of constraint '{constraint.kind}'")
    return {"structured_outputs": {names[constraint.kind]: value}}

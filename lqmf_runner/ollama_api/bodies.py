"""Bodies of Ollama's routes as generation requests. Unsupported fields that would change the answer are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import FieldError
from ..openai_api.bodies.answer_constraint import format_constraint, offered_tools, or_calls
from ..openai_api.bodies.body import given_fields
from ..openai_api.bodies.fields import OF_THE_LOAD
from ..openai_api.bodies.messages import to_message
from ..openai_api.bodies.sampling import stop_strings
from ..types import GenerationRequest, Message, SamplingParams
from .schemas import Asking, GenerateRequest, OllamaChatRequest, Options, Turn

LATEST = ":latest"


def plain_name(name: str) -> str:
    """The name without the tag that Ollama's clients add to one that has none."""
    return name.removesuffix(LATEST)


def tagged_name(name: str) -> str:
    """The name as Ollama lists it: clients look a name without a tag up with this one."""
    return name if ":" in name else name + LATEST


def chat_request(data: OllamaChatRequest) -> GenerationRequest:
    """What a chat asks for. If its last turn is an assistant's, the answer goes on from it, as in Ollama.

    Raises:
        FieldError: a field is wrong, or asks for what is not supported.
    """
    turns = _with_call_ids(data.messages or ())
    for index, turn in enumerate(turns):
        _refuse(f"messages[{index}].images", turn.images, "images are not supported; send text alone")
    messages = tuple(_message(turn, index) for index, turn in enumerate(turns))
    last = messages[-1]
    goes_on = last.role == "assistant" and bool(last.content) and not last.tool_calls
    tools, sampling = offered_tools(data.tools or []), _sampling(data)
    return GenerationRequest(
        messages=messages,
        sampling=msgspec.structs.replace(sampling, constraint=or_calls(sampling.constraint, tools)),
        tools=tools,
        template_options=_template_options(data),
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
        separate_thoughts=True if data.think else None,
    )


def generate_request(data: GenerateRequest, *, chat_template: bool) -> GenerationRequest:
    """What a prompt asks for.

    Args:
        chat_template: whether the model has one; without it the prompt goes to the model as it is.

    Raises:
        FieldError: as of `chat_request`.
    """
    sampling = _sampling(data)
    if data.raw or not (chat_template or data.system):
        return GenerationRequest(
            prompt=data.prompt, sampling=sampling, separate_thoughts=True if data.think else None
        )
    system = (Message("system", data.system),) if data.system else ()
    return GenerationRequest(
        messages=(*system, Message("user", data.prompt)),
        sampling=sampling,
        template_options=_template_options(data),
        separate_thoughts=True if data.think else None,
    )


def thinking(asked: GenerationRequest) -> GenerationRequest:
    """The same of a model that thinks: it does so unless it is told not to, as in Ollama, or is constrained."""
    if asked.messages is None or asked.sampling.constraint is not None:
        return asked
    options = {"enable_thinking": True, **asked.template_options}
    return msgspec.structs.replace(asked, template_options=options)


def check_generate(data: GenerateRequest) -> None:
    """Refuse what `generate_request` cannot do, before a model is loaded for it.

    Raises:
        FieldError: names the field.
    """
    _refuse("images", data.images, "images are not supported; send text alone")
    _refuse(
        "suffix", data.suffix, "write the model's own marks for filling in into the prompt, with raw=true"
    )
    _refuse("template", data.template, "write the whole prompt with raw=true")
    _refuse("context", data.context, "POST /api/chat takes the earlier turns as messages")
    if data.raw and data.system:
        raise FieldError(
            "'system' means nothing with raw=true", param="system", hint="write it into the prompt"
        )
    _sampling(data)


def options_of(given: dict[str, Any] | None) -> Options:
    """The options with Ollama's defaults. Those that only say how to load and compute a model are passed over.

    Raises:
        FieldError: one is out of range, or would change the answer and is not supported.
    """
    options = {name: value for name, value in (given or {}).items() if name not in OF_THE_LOAD}
    if options.get("repeat_last_n") == 0:  # looks back at nothing
        off = ("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty")
        options = {name: value for name, value in options.items() if name not in off}
    try:
        return given_fields(options, Options)
    except FieldError as error:
        where = f"options.{error.param}" if error.param else "options"
        raise FieldError(f"options: {error.message}", param=where, hint=error.hint) from None


def _sampling(data: Asking) -> SamplingParams:
    options = options_of(data.options)
    if data.top_logprobs and not data.logprobs:
        raise FieldError("top_logprobs needs logprobs=true", param="top_logprobs")
    return SamplingParams(
        max_tokens=options.num_predict if options.num_predict > 0 else None,
        temperature=options.temperature,
        top_k=max(options.top_k, 0),
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        seed=options.seed,
        stop=stop_strings(options.stop),
        logprobs=(data.top_logprobs or 0) if data.logprobs else None,
        constraint=format_constraint(data.format),
    )


def _template_options(data: Asking) -> dict[str, Any]:
    if data.think is None:
        return {}
    effort = {"reasoning_effort": data.think} if isinstance(data.think, str) else {}
    return {"enable_thinking": bool(data.think), **effort}


def _with_call_ids(turns: Sequence[Turn]) -> list[Turn]:
    """The turns, where each answer of a tool says which call it answers: the first open one of its tool, or of any.

    Ollama's clients send none. Some chat templates want them.
    """
    found: list[Turn] = []
    open_calls: list[tuple[str, str]] = []
    for turn in turns:
        open_calls += [(call.function.name, call.id or "") for call in turn.tool_calls or ()]
        if turn.role == "tool" and not turn.tool_call_id:
            named = [call for call in open_calls if call[0] == turn.tool_name]
            call = next(iter(named or open_calls), ("", ""))
            turn = msgspec.structs.replace(turn, tool_call_id=call[1], name=turn.tool_name or turn.name)
            if call in open_calls:
                open_calls.remove(call)
        found.append(turn)
    return found


def _message(turn: Turn, index: int) -> Message:
    if turn.prefix:
        raise FieldError(
            f"'messages[{index}].prefix' is not supported here",
            param=f"messages[{index}].prefix",
            hint="the answer goes on from a last turn of the assistant anyway",
        )
    if turn.content is None:
        turn = msgspec.structs.replace(turn, content="")
    return to_message(turn, index)


def _refuse(param: str, value: Any, hint: str) -> None:
    if value:
        raise FieldError(f"'{param}' is not supported", param=param, hint=hint)

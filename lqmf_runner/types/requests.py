"""Requests to a model."""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, as chat templates take it.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: the text; None in an assistant or tool turn that has none.
        name: of the speaker, or of the tool that answers.
        tool_calls: what an assistant turn asked for, each {"id", "type": "function", "function": {"name",
            "arguments"}}, the arguments as an object, or as text where they are none.
        tool_call_id: which of those calls a tool turn answers.
        reasoning_content: the thoughts of an assistant turn, kept apart from its text.
    """

    role: str
    content: str | None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Constraint(msgspec.Struct, frozen=True):
    """What the answer's text must match; tokens that would break it are never chosen.

    `kind` is "json_object" (any JSON object; `value` is empty), "json_schema" (`value` is the schema as JSON),
    "regex", "lark" (a grammar in Lark's syntax), or "choice" (a JSON list of strings). The answer may instead be calls
    of the tools with the names in `calls`.
    """

    kind: str
    value: str = ""
    calls: tuple[str, ...] = ()


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose tokens. Names and meanings follow OpenAI and vLLM.

    Attributes:
        max_tokens: most tokens to generate; None means until the context is full.
        temperature: 0 is greedy.
        top_k: keep the k most likely tokens; 0 is off.
        top_p: nucleus sampling; 1 is off.
        min_p: drop tokens less likely than `min_p` times the most likely one; 0 is off.
        repetition_penalty: > 1 makes tokens of the prompt and the answer less likely (CTRL, Keskar et al. 2019).
        presence_penalty: subtracted once from the logit of every token already generated.
        frequency_penalty: subtracted once for each time a token was generated.
        logit_bias: token id → value added to its logit.
        seed: same seed, same text; None draws a fresh one, and so does -1, which becomes None.
        stop: strings that end the answer; they are not part of it.
        logprobs: None, or how many alternatives to report with each chosen token's log-probability (0 is allowed).
        ignore_eos: go on past the end-of-sequence token (for benchmarks of a fixed length).
        constraint: what the answer must match; None lets it be anything.
    """

    max_tokens: int | None = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if self.seed == -1:
            msgspec.structs.force_setattr(self, "seed", None)


# The range of each value, bounds included. The engine and the configuration refuse other values.
SAMPLING_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "top_k": (0, 2**31),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "max_tokens": (1, 2**31),
    "logprobs": (0, 20),
    "seed": (-(2**63), 2**64 - 1),
}


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to generate from. Exactly one of `messages`, `prompt` and `prompt_tokens` is given.

    `messages` go through the model's chat template; `prompt` is tokenized as plain text with the model's usual
    beginning-of-sequence token; `prompt_tokens` are used as they are.

    Attributes:
        tools: functions the model may call, as OpenAI describes them; handed to the chat template.
        template_options: variables for the chat template, e.g. {"enable_thinking": False}. They cannot replace what
            the program itself hands to it.
        add_generation_prompt: whether the chat template opens a turn for the answer.
        continue_final_message: the prompt ends inside the last message, and the answer goes on from its text; then
            `add_generation_prompt` is False.
        separate_thoughts: whether thoughts are separated from the text, as `reasoning` of the answer; None is so in a
            chat with a model whose chat template knows them.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    prompt_tokens: tuple[int, ...] | None = None
    sampling: SamplingParams = SamplingParams()
    tools: tuple[dict[str, Any], ...] = ()
    template_options: dict[str, Any] = {}
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    separate_thoughts: bool | None = None

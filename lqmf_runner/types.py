"""The core nouns that every other module speaks in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
    "regex", "lark" (a grammar in Lark's syntax), or "choice" (a JSON list of strings).
    """

    kind: str
    value: str = ""


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


# What a value may be, bounds included; the engine and the configuration both refuse all else.
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
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    prompt_tokens: tuple[int, ...] | None = None
    sampling: SamplingParams = SamplingParams()
    tools: tuple[dict[str, Any], ...] = ()
    template_options: dict[str, Any] = {}
    add_generation_prompt: bool = True
    continue_final_message: bool = False


class TokenLogprob(msgspec.Struct, frozen=True):
    """A chosen token with its natural-log probability and the most likely alternatives.

    Log-probabilities are those of the model itself, before temperature, penalties and bias.

    Attributes:
        text: of the token by itself, U+FFFD for a part of a character.
        top: (id, text, log-probability) of each alternative.
        data: what the token adds to the text; None where that is its `text`.
        top_data: the same of each alternative, or nothing where it is the text of all.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()
    data: bytes | None = None
    top_data: tuple[bytes | None, ...] = ()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts and engine-side timing of one finished request, in tokens and seconds.

    Attributes:
        prompt_tokens: tokens of the prompt, reused ones included.
        cached_tokens: how many of them came from a reused prefix.
        completion_tokens: tokens generated (the end-of-sequence token counts, as it took a step).
        drafted_tokens: tokens that speculation proposed.
        accepted_tokens: how many of them the model chose too, each of which saved a step.
        queue_s: from arrival at the worker to the first step that worked on it.
        prefill_s: from that first step to the first token.
        decode_s: from the first token to the last.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer as it is streamed. The last one has `finish_reason` and `usage`.

    `text` may be empty while a character or a possible stop string is incomplete; `token_ids` are the tokens of
    this step whether or not their text is out yet. `reasoning` are thoughts that an endpoint sends apart from the text.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None  # "stop", "length" or "cancelled"
    usage: Usage | None = None
    reasoning: str = ""


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Consecutive chunks of one answer as one."""
    if len(chunks) == 1:
        return chunks[0]
    last = chunks[-1]
    return Chunk(
        text="".join([chunk.text for chunk in chunks]),
        token_ids=tuple(itertools.chain.from_iterable(chunk.token_ids for chunk in chunks)),
        logprobs=tuple(itertools.chain.from_iterable(chunk.logprobs for chunk in chunks)),
        finish_reason=last.finish_reason,
        usage=last.usage,
        reasoning="".join([chunk.reasoning for chunk in chunks]),
    )


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> Completion:
        """All chunks of an answer as one."""
        whole = joined(chunks)
        return cls(
            text=whole.text,
            token_ids=whole.token_ids,
            finish_reason=whole.finish_reason or "stop",
            usage=whole.usage or Usage(),
            logprobs=whole.logprobs,
            reasoning=whole.reasoning,
        )


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Log-probabilities of a given token sequence under the model.

    `logprobs[i]` is log p(token i | tokens before it); the first is None. `greedy[i]` says whether token i was
    the most likely one. `top[i]` are the most likely tokens there, with their text and log-probability, as many as
    were asked for; `top` is empty where none were. Else all have the length of `token_ids`.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    greedy: tuple[bool | None, ...]
    top: tuple[tuple[tuple[int, str, float], ...], ...] = ()


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive tokens of a text, the later ones scored, and where a reference's distributions of them are kept.

    Attributes:
        tokens: of the window.
        first: position of the first token that is scored; those before it are context.
        index: number of the window in its text.
        rows: file of the reference's distributions (`engine.worker.distributions`), all windows one after the other.
        n_vocab: width of a row in it.
        record: write this window's rows; otherwise compare with them.
    """

    tokens: list[int]
    first: int
    index: int
    rows: str
    n_vocab: int
    record: bool


class WindowScore(msgspec.Struct, frozen=True):
    """One value for each scored token of a window.

    Attributes:
        nll: -log p(token | tokens before it), nats.
        top: the most likely token there.
        kld: KL divergence of the model's distribution from the reference's, nats; empty where they were recorded.
    """

    nll: tuple[float, ...]
    top: tuple[int, ...]
    kld: tuple[float, ...] = ()


class NextTokenLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Natural-log probabilities that some tokens follow a prompt, of which `cached_tokens` were reused."""

    logprobs: tuple[float, ...]
    cached_tokens: int


class OptionLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Natural-log probability of each of some options as the beginning of the answer to a prompt.

    -inf where an endpoint tells only the most likely tokens and an option is not among them.
    """

    logprobs: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded model is. Sizes in MB are 10^6 bytes.

    Attributes:
        weight_bytes: bytes of weights read for one decoded token (embedding table only where it is also the head).
        bits_per_weight: 8 × bytes of all stored weights / parameters.
        tools: whether the chat template knows tools.
        embeddings: whether the model gives embeddings of texts.
        batch_invariant: whether an answer is the same whatever else the engine computes.
        bos: the token that its tokenizer puts before every text; None where it puts none.
        notes: what the load had to do differently from what was asked (a fallback), one sentence each.
    """

    name: str
    format: str
    method: str  # what people call it: "Q4_1", "NF4", "GPTQ 4-bit g64", "bfloat16"
    architecture: str
    bits: float
    bits_per_weight: float
    parameters: int
    size_mb: float
    weight_bytes: int
    n_ctx: int
    n_vocab: int
    max_slots: int
    device: str
    dtype: str
    chat_template: bool
    tools: bool = False
    embeddings: bool = False
    batch_invariant: bool = False
    bos: int | None = None
    load_time_s: float = 0.0
    version: str = ""
    notes: tuple[str, ...] = ()


class Embeddings(msgspec.Struct, frozen=True):
    """A vector for each text, and the tokens of all texts; None where the engine does not say."""

    vectors: list[list[float]]
    prompt_tokens: int | None = None


class EngineStats(msgspec.Struct, kw_only=True):
    """Counters of a worker since its load; seconds, tokens and requests.

    `prefill_*` count the steps that held prompt tokens only, `decode_*` those that held no prompt tokens, `mixed_*` the
    rest. `decode_steps` is the number of pure decode steps. Refused drafts are in no `*_tokens` but `drafted_tokens`.
    """

    running: int = 0
    waiting: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_tokens: int = 0
    decode_steps: int = 0
    decode_s: float = 0.0
    mixed_prefill_tokens: int = 0
    mixed_decode_tokens: int = 0
    mixed_steps: int = 0
    mixed_s: float = 0.0


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one worker process, in MB of 10^6 bytes; GPU figures are 0 where there is none."""

    rss_mb: float = 0.0
    peak_rss_mb: float = 0.0
    gpu_mb: float = 0.0
    peak_gpu_mb: float = 0.0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model that has been located: everything a worker needs to load it.

    Attributes:
        path: a folder or a GGUF file that exists on this machine. Empty for a remote endpoint.
        format: the name of one of `formats.FORMATS`.
        options: the backend's settings, as plain values (the fields of its config dataclass).
    """

    name: str
    format: str
    path: str
    version: str = ""
    options: dict[str, Any] = {}

"""The answers of a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec


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
        draft_model_drafted_tokens, draft_model_accepted_tokens: those of them that the draft model proposed.
        queue_s: from arrival at the worker to the first step that worked on it.
        prefill_s: from that first step to the first token.
        decode_s: from the first token to the last.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft_model_drafted_tokens: int = 0
    draft_model_accepted_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


RESTARTED = "restarted"
"""The `finish_reason` of a chunk after which an answer begins again; all that came before it does not count.

Only an answer that is wanted whole has it, if the replica that was making it is lost.
"""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer as it is streamed. The last one has `finish_reason` and `usage`.

    `text` may be empty while a character or a possible stop string is incomplete; `token_ids` are the tokens of
    this step whether or not their text is out yet. `reasoning` are thoughts, separated from the text
    (`engine.thoughts`), or that an endpoint sends so.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None  # "stop", "length", "cancelled" or RESTARTED
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
        """All chunks of an answer as one, from its last beginning on."""
        restarts = [index for index, chunk in enumerate(chunks) if chunk.finish_reason == RESTARTED]
        whole = joined(chunks[restarts[-1] + 1 :] if restarts else chunks)
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


class Embeddings(msgspec.Struct, frozen=True):
    """A vector for each text, and the tokens of all texts; None where the engine does not say."""

    vectors: list[list[float]]
    prompt_tokens: int | None = None

"""The seam that a format implements: `ModelRunner` and its `Tokenizer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ....errors import DoesNotFitError
from ....models import FoundModel
from ....types import ModelInfo, ModelSpec
from ..text import Detokenizer

Progress = Callable[[float], None]

_DEFAULT_CTX = 4096
_MIN_CTX = 512


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one slot in a step: a chunk of a prompt, or a decode token with a draft of the next.

    Attributes:
        slot: the sequence they belong to.
        tokens: their ids.
        start: position of the first in the sequence; everything before it is in the slot's KV cache.
        n_rows: for how many of the last tokens the next-token logits are wanted.
    """

    slot: int
    tokens: Sequence[int]
    start: int
    n_rows: int

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)


def asked_cache(spec: ModelSpec, n_train: int) -> tuple[int, int]:
    """The context and the number of slots that are asked for, see `plan_cache`."""
    return spec.options.get("n_ctx") or min(n_train, _DEFAULT_CTX), spec.options.get("max_slots", 16)


def plan_cache(
    spec: ModelSpec, n_train: int, bytes_per_token: int, free: int, notes: list[str]
) -> tuple[int, int]:
    """How long a context, and how many slots of it: what was asked for, or what memory holds once all are full.

    Args:
        n_train: the context the model was trained with.
        bytes_per_token: of keys and values in all layers.
        free: bytes that are free once the weights are loaded.
        notes: gets a sentence when it is not what was asked for.

    Returns:
        (n_ctx, max_slots).

    Raises:
        DoesNotFitError: with the numbers, when less does not fit either or `backend.fallback` is off.
    """
    n_ctx, max_slots = asked_ctx, asked_slots = asked_cache(spec, n_train)
    if n_ctx > n_train:
        notes.append(f"the context of {n_ctx} tokens is longer than the {n_train} the model was trained with")
    while bytes_per_token * n_ctx * max_slots > free:
        if not spec.options.get("fallback", True) or (max_slots == 1 and n_ctx <= _MIN_CTX):
            raise DoesNotFitError(
                f"the KV cache of '{spec.name}' needs {bytes_per_token * n_ctx * max_slots / 1e6:.0f} MB for "
                f"{max_slots} requests of {n_ctx} tokens, {free / 1e6:.0f} MB are free",
                hint="lower backend.max_slots or backend.n_ctx, or unload another model",
            )
        if max_slots > 1:
            max_slots //= 2
        else:
            n_ctx //= 2
    if max_slots < asked_slots:
        notes.append(f"memory holds {max_slots} requests of {n_ctx} tokens at a time, not {asked_slots}")
    if n_ctx < asked_ctx:
        notes.append(f"memory holds a context of {n_ctx} tokens, not {asked_ctx}")
    return n_ctx, max_slots


def one_request_at_a_time(spec: ModelSpec, notes: list[str], why: str) -> ModelSpec:
    """The spec with a single slot: with `can_reuse_prefix` off, it keeps `backend.batch_invariant` by any kernels.

    Args:
        why: the part of the sentence in `notes` that says what is missing.
    """
    notes.append(f"backend.batch_invariant: one request is computed at a time, because {why}")
    return msgspec.structs.replace(spec, options={**spec.options, "max_slots": 1})


def loaded_info(
    spec: ModelSpec,
    found: FoundModel,
    *,
    n_ctx: int,
    n_vocab: int,
    max_slots: int,
    device: str,
    dtype: str,
    chat_template: bool,
    bos: int | None,
    batch_invariant: bool = False,
    notes: Sequence[str],
) -> ModelInfo:
    """What a loaded model is: what its files say, and what only the loaded one knows."""
    return ModelInfo(
        name=spec.name,
        format=spec.format,
        method=found.method,
        architecture=found.architecture,
        bits=found.bits,
        bits_per_weight=found.bits_per_weight,
        parameters=found.parameters,
        size_mb=found.size_mb,
        weight_bytes=found.weight_bytes,
        n_ctx=n_ctx,
        n_vocab=n_vocab,
        max_slots=max_slots,
        device=device,
        dtype=dtype,
        chat_template=chat_template,
        embeddings=found.embeddings,
        bos=bos,
        batch_invariant=batch_invariant,
        version=spec.version or found.version,
        notes=tuple(notes),
    )


class Tokenizer(ABC):
    """A model's own tokenizer.

    Attributes:
        eos_ids: tokens that end an answer.
        add_bos: whether the model expects a beginning-of-sequence token.
        bos_id: that token, or None.
        chat_templates: Jinja sources by name; empty where the model has none.
        special_tokens: `bos_token`, `eos_token`, ... as text, for the template.
    """

    eos_ids: frozenset[int]
    add_bos: bool
    bos_id: int | None
    chat_templates: dict[str, str]
    special_tokens: dict[str, str]

    @abstractmethod
    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids, without adding any; `parse_special` reads `<|im_end|>` and its like as one token.

        May be called from several threads.
        """

    @abstractmethod
    def detokenizer(self) -> Detokenizer:
        """A fresh one, for one answer. Special tokens give no text."""

    @abstractmethod
    def token_text(self, token: int) -> str:
        """The text of one token by itself (U+FFFD for a part of a character)."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text; nothing for a special token, and for an id that is no token."""

    def entry(self, token: int) -> bytes:
        """How the vocabulary itself spells a token, special ones included; nothing for an id that is no token."""
        return self.token_bytes(token)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a whole prompt: special tokens are read, and the BOS the model expects comes first."""
        tokens = self.encode(text, parse_special=True)
        if self.add_bos and self.bos_id is not None and tokens[:1] != [self.bos_id]:
            tokens.insert(0, self.bos_id)
        return tokens

    def encode_chat(self, text: str) -> list[int]:
        """Token ids of what the chat template rendered."""
        return self.encode_prompt(text)

    def encode_whole(self, text: str) -> list[int]:
        """Token ids of a text with all that the model expects before and after it."""
        return self.encode_prompt(text)

    def decode(self, tokens: Sequence[int]) -> str:
        detokenizer = self.detokenizer()
        return "".join(detokenizer.add(token) for token in tokens) + detokenizer.finish()


class ModelRunner(ABC):
    """A loaded model that advances many sequences ("slots") together, one step at a time.

    Used by one thread. A runner knows nothing of requests, stop strings or sampling. Its KV cache grows with what
    the slots hold, up to `info.max_slots` times `info.n_ctx` tokens.

    Attributes:
        info: what was loaded, `n_ctx` and `max_slots` included.
        can_reuse_prefix: False where a slot cannot be cut back (recurrent models).
        keeps_prefixes: whether what a slot holds can be copied to main memory and back (`save`, `restore`).
        cuts_restored: False where what `restore` gives back cannot be cut back (see `shortest_prefix`).
        mixes_prompts: whether chunks of prompts and decode tokens in one step cost less than in two.
        least_chunk: so many tokens of a prompt are computed together, or all if there are fewer. Fewer go through
            other kernels, whose numbers can differ, and an answer is not to depend on how its prompt is cut.
    """

    info: ModelInfo
    tokenizer: Tokenizer
    can_reuse_prefix: bool = True
    keeps_prefixes: bool = False
    cuts_restored: bool = True
    mixes_prompts: bool = True
    least_chunk: int = 2

    @classmethod
    @abstractmethod
    def load(cls, spec: ModelSpec, progress: Progress, reserved: int = 0) -> ModelRunner:
        """Load the model.

        Args:
            progress: takes the share that is done, 0 to 1.
            reserved: bytes that another model will take where this one is. Its weights and its cache leave them free.

        Raises:
            ModelUnusableError: damaged, unsafe or unknown files.
            DoesNotFitError: not enough memory, and no fallback was allowed or left.
            MissingDependencyError: the format's package is not installed.
        """

    @classmethod
    def needed_bytes(cls, spec: ModelSpec) -> int:
        """What a model takes once it is loaded and all its slots are full, as its files say."""
        raise NotImplementedError

    @abstractmethod
    def reserve(self, batch: Sequence[Span]) -> None:
        """Let the KV cache grow so that it holds the spans of a step.

        Raises:
            DoesNotFitError: memory does not hold a larger cache. The cache is as it was.
        """

    @abstractmethod
    def step(self, batch: Sequence[Span]) -> NDArray[np.float32]:
        """Run the model over the spans, extending each slot's KV cache.

        Returns:
            Logits of the asked-for tokens in the order of the batch, shape [rows, n_vocab]; valid until the next
            step.
        """

    @abstractmethod
    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        """Make the first n tokens of slot `src` the whole content of slot `dst`."""

    @abstractmethod
    def truncate(self, slot: int, n: int) -> None:
        """Forget all but the first n tokens of a slot; 0 releases it."""

    def shortest_prefix(self, slot: int) -> int:
        """The least tokens that a slot can be cut back to, besides none."""
        return 0

    def saved_bytes(self, slot: int, n: int) -> int:
        """Bytes of the keys and values of a slot that holds n tokens, as `save` writes them."""
        raise NotImplementedError

    def save(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        """Copy the keys and values of a slot that holds n tokens to main memory; the slot stays as it is."""
        raise NotImplementedError

    def restore(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        """Make the n tokens that `save` wrote, of whichever slot, the whole content of a slot.

        Raises:
            EngineError: what is there cannot be read; the slot holds nothing then.
        """
        raise NotImplementedError

"""Attention over a KV cache that is divided into slots, plugged into transformers' attention interface.

The model runs on one packed row of tokens from many sequences, so that no linear layer ever sees padding. Only
attention needs to know where a sequence begins: it writes the new keys and values into the slots, then lets all
single tokens attend in one call and each chunk of a prompt in a call of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ....errors import DoesNotFitError, ModelUnusableError
from .base import Span

NAME = "lqmf_slots"
_FIRST_CAPACITY = 256


@dataclass(frozen=True, slots=True)
class Prefill:
    """A chunk of a prompt: rows [begin, end) of the packed tokens, `n_keys` tokens of its slot to attend to."""

    slot: int
    begin: int
    end: int
    n_keys: int


class Plan(ABC):
    """Where the tokens of one step go. Decode tokens come first in the packed row, by slot.

    Attributes:
        tokens: their ids, shape [1, n_tokens].
        positions: position of each packed token in its sequence, shape [1, n_tokens].
        cache_rows: where each token's key goes in a cache flattened to [slots × capacity, ...], shape [n_tokens].
        prefills: the chunks of prompts, in the order of the packed row.
        n_decode: how many decode tokens come before them. The rest describes these, and is there if there are any.
        first_slot, last_slot, n_slots: the range of slots that they attend to.
        dense: whether each slot of that range has one.
        decode_rows: the place of each in that range, where it is not dense.
        n_keys: the most keys that one of them sees.
        flash: attention for them with another kernel; None is torch's attention with a mask.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    cache_rows: torch.Tensor
    prefills: Sequence[Prefill]
    n_decode: int
    first_slot: int
    last_slot: int
    n_slots: int
    dense: bool
    decode_rows: torch.Tensor
    n_keys: int
    flash: Callable[..., torch.Tensor] | None = None

    @abstractmethod
    def on(self, device: torch.device) -> Plan:
        """This plan with its tensors on that device: the layers of a model may lie on several GPUs."""

    @abstractmethod
    def decode_mask(self, window: int | None) -> torch.Tensor | None:
        """Which keys the decode rows may see, shape [n_slots, 1, 1, n_keys]; None where it is all of them."""

    @abstractmethod
    def prefill_mask(self, index: int, window: int | None) -> torch.Tensor | None:
        """Causal mask of a chunk over its slot, shape [n_queries, n_keys]; None where plain causal attention does."""


class StepPlan(Plan):
    """The plan of any step, made for it."""

    def __init__(self, spans: Sequence[Span], capacity: int, device: torch.device) -> None:
        singles = sorted((s for s in spans if len(s.tokens) == 1), key=lambda s: s.slot)
        self.order = singles + [s for s in spans if len(s.tokens) > 1]
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        prefills: list[Prefill] = []
        for span in self.order:
            if len(span.tokens) > 1:
                prefills.append(Prefill(span.slot, len(tokens), len(tokens) + len(span.tokens), span.end))
            tokens.extend(span.tokens)
            positions.extend(range(span.start, span.end))
            rows.extend(range(span.slot * capacity + span.start, span.slot * capacity + span.end))
        self.prefills = prefills
        self.tokens = torch.tensor([tokens], device=device)
        self.positions = torch.tensor([positions], device=device)
        self.cache_rows = torch.tensor(rows, device=device)
        self.n_decode = len(singles)
        self._device = device
        self._spans, self._capacity = spans, capacity
        self._elsewhere: dict[torch.device, StepPlan] = {}
        self._masks: dict[tuple[int, int | None], torch.Tensor | None] = {}
        if singles:
            self.first_slot, self.last_slot = singles[0].slot, singles[-1].slot
            self.n_slots = self.last_slot - self.first_slot + 1
            self.n_keys = max(s.start for s in singles) + 1
            self.dense = self.n_slots == len(singles)
            self._offsets = [s.slot - self.first_slot for s in singles]
            self.decode_rows = torch.tensor(self._offsets, device=device)
            self._decode_starts = [s.start for s in singles]

    def on(self, device: torch.device) -> StepPlan:
        if device == self._device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = StepPlan(self._spans, self._capacity, device)
        return self._elsewhere[device]

    def decode_mask(self, window: int | None) -> torch.Tensor | None:
        key = (-1, window)
        if key not in self._masks:
            last = torch.zeros(self.n_slots, dtype=torch.long)
            last[self._offsets] = torch.tensor(self._decode_starts)
            last = last.to(self._device)[:, None]
            keys = torch.arange(self.n_keys, device=self._device)
            mask = keys <= last
            if window is not None:
                mask &= keys > last - window
            self._masks[key] = None if bool(mask.all()) else mask[:, None, None, :]
        return self._masks[key]

    def prefill_mask(self, index: int, window: int | None) -> torch.Tensor | None:
        key = (index, window)
        if key not in self._masks:
            chunk = self.prefills[index]
            n = chunk.end - chunk.begin
            if n == chunk.n_keys and (window is None or n <= window):
                self._masks[key] = None
            else:
                queries = torch.arange(chunk.n_keys - n, chunk.n_keys, device=self._device)[:, None]
                keys = torch.arange(chunk.n_keys, device=self._device)
                mask = keys <= queries
                if window is not None:
                    mask &= keys > queries - window
                self._masks[key] = mask
        return self._masks[key]


class SlotCache:
    """Keys and values of all layers, each [slots, capacity, kv_heads, head_dim]; grows when a slot outgrows it.

    With `spare`, one more slot follows the last, for tokens that only fill up a step.

    Attributes:
        capacity: tokens that a slot holds.
        generation: another number for each time that the keys and values lie elsewhere.
    """

    def __init__(self, n_slots: int, *, spare: bool = False) -> None:
        self._n_slots = n_slots
        self._n_spare = int(spare)
        self._rows = 1
        self.capacity = _FIRST_CAPACITY
        self.generation = 0
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def spare_slot(self) -> int:
        """The number of the spare slot. It changes when the cache grows."""
        return self._rows

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cache of a layer; made when the layer first runs, shaped like `key`, [1, heads, tokens, head_dim]."""
        if index not in self._layers:
            self._layers[index] = (self._empty(key), self._empty(value))
        return self._layers[index]

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        return _zeros((self._rows + self._n_spare, self.capacity, like.shape[1], like.shape[3]), like)

    def reserve(self, n_rows: int, n_tokens: int) -> None:
        """Make sure slots 0 to n_rows - 1 can hold n_tokens tokens each.

        The layers grow one by one: all new ones beside all old ones would take half as much memory again as the plan
        of the cache counts with.

        Raises:
            DoesNotFitError: memory does not hold it. Shape and content are as they were.
        """
        if n_rows <= self._rows and n_tokens <= self.capacity:
            return
        rows = max(self._rows, min(power_of_two(n_rows), self._n_slots))
        capacity = max(self.capacity, power_of_two(n_tokens))
        self.generation += 1
        grown, problem = list[int](), ""
        try:
            for index in self._layers:
                self._layers[index] = self._grown(index, rows, capacity)
                grown.append(index)
        except (RuntimeError, MemoryError) as error:  # torch has no error of its own for main memory
            problem = str(error).partition("\n")[0] or type(error).__name__
        if problem:  # the error is gone by now, and with it the tensors that it held
            for index in grown:
                self._shrink(index)
            needed = self.saved_bytes(1) * capacity * (rows + self._n_spare)
            raise DoesNotFitError(
                f"the KV cache cannot grow to {needed / 1e6:.0f} MB for {rows} requests of {capacity} tokens: "
                f"{problem}",
                hint="send fewer or shorter requests, lower backend.max_slots, or unload another model",
            )
        self._rows, self.capacity = rows, capacity

    def _grown(self, index: int, rows: int, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values in a larger shape."""
        grown = []
        for old in self._layers[index]:
            new = _zeros((rows + self._n_spare, capacity, *old.shape[2:]), old)
            new[: self._rows, : self.capacity] = old[: self._rows]
            grown.append(new)
        return grown[0], grown[1]

    def _shrink(self, index: int) -> None:
        """Give a layer that has grown its former shape, by way of main memory: there is no room beside it."""
        device = self._layers[index][0].device
        keys, values = (
            cache[: self._rows + self._n_spare, : self.capacity].to("cpu", copy=True)
            for cache in self._layers[index]
        )
        self._layers[index] = keys, values
        self._layers[index] = keys.to(device), values.to(device)

    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        for pair in self._layers.values():
            for cache in pair:
                cache[dst, :n] = cache[src, :n]

    def saved_bytes(self, n: int) -> int:
        """Bytes of n tokens in all layers."""
        return sum(cache[0, :n].nbytes for pair in self._layers.values() for cache in pair)

    def parts(self, slot: int, memory: torch.Tensor, n: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each layer's keys and values of the first n tokens of a slot as bytes, with its part of `memory`."""
        at = 0
        for pair in self._layers.values():
            for cache in pair:
                held = cache[slot, :n].view(-1).view(torch.uint8)
                yield held, memory[at : at + held.nbytes]
                at += held.nbytes


class SlotAttention:
    """The attention function. `plan` is set before each step."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        self.plan: Plan

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of the packed tokens, query [1, heads, tokens, head_dim]; returns [1, tokens, heads, head_dim]."""
        if s_aux is not None:
            raise ModelUnusableError(
                "this model uses attention sinks, which the transformers runner does not know"
            )
        plan = self.plan.on(key.device)
        keys, values = self.cache.layer(module.layer_idx, key, value)
        keys.flatten(0, 1).index_copy_(0, plan.cache_rows, key[0].transpose(0, 1))
        values.flatten(0, 1).index_copy_(0, plan.cache_rows, value[0].transpose(0, 1))
        attend = scaled_dot_product_attention if softcap is None else _Softcapped(softcap)
        parts = []
        if plan.flash is not None and softcap is None:
            parts.append(plan.flash(query, keys, values, scaling, sliding_window))
        elif plan.n_decode:
            parts.append(_decode(plan, query, keys, values, attend, scaling, sliding_window))
        for index, chunk in enumerate(plan.prefills):
            mask = plan.prefill_mask(index, sliding_window)
            part = attend(
                query[:, :, chunk.begin : chunk.end],
                keys[chunk.slot : chunk.slot + 1, : chunk.n_keys].transpose(1, 2),
                values[chunk.slot : chunk.slot + 1, : chunk.n_keys].transpose(1, 2),
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=True,
            )
            parts.append(part.transpose(1, 2))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)), None


def _decode(
    plan: Plan,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    attend: Any,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """One query per slot. Query heads that share a key head become the queries of that head."""
    n_kv, width = keys.shape[2], query.shape[3]
    q = query[0, :, : plan.n_decode].transpose(0, 1)  # [n_decode, heads, head_dim]
    if not plan.dense:
        spread = q.new_zeros((plan.n_slots, *q.shape[1:]))
        spread[plan.decode_rows] = q
        q = spread
    slots = slice(plan.first_slot, plan.last_slot + 1)
    out = attend(
        q.reshape(plan.n_slots, n_kv, -1, width),
        keys[slots, : plan.n_keys].transpose(1, 2),
        values[slots, : plan.n_keys].transpose(1, 2),
        attn_mask=plan.decode_mask(window),
        scale=scaling,
    )
    out = out.reshape(plan.n_slots, -1, values.shape[3])
    if not plan.dense:
        out = out[plan.decode_rows]
    return out[None]


class _Softcapped:
    """Attention whose scores are bounded by `cap` · tanh(score / cap), as in Gemma 2."""

    def __init__(self, cap: float) -> None:
        self._cap = cap

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if enable_gqa:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = self._cap * torch.tanh(scores / self._cap)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def power_of_two(n: int) -> int:
    """The least that is not below n."""
    return 1 << (n - 1).bit_length()

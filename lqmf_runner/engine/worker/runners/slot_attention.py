"""Attention over a KV cache that is divided into slots, plugged into transformers' attention interface.

The model runs on one packed row of tokens from many sequences, so that no linear layer ever sees padding. Only
attention needs to know where a sequence begins: it writes the new keys and values into the slots, then lets all
single tokens attend in one call and each chunk of a prompt in a call of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ....errors import ModelUnusableError
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


class StepPlan:
    """Where the tokens of one step go. Decode tokens come first in the packed row, by slot.

    Attributes:
        positions: position of each packed token in its sequence, shape [n_tokens].
        cache_rows: where each token's key goes in a cache flattened to [slots × capacity, ...], shape [n_tokens].
    """

    def __init__(self, spans: Sequence[Span], capacity: int, device: torch.device) -> None:
        singles = sorted((s for s in spans if len(s.tokens) == 1), key=lambda s: s.slot)
        self.order = singles + [s for s in spans if len(s.tokens) > 1]
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        self.prefills: list[Prefill] = []
        for span in self.order:
            if len(span.tokens) > 1:
                self.prefills.append(
                    Prefill(span.slot, len(tokens), len(tokens) + len(span.tokens), span.end)
                )
            tokens.extend(span.tokens)
            positions.extend(range(span.start, span.end))
            rows.extend(range(span.slot * capacity + span.start, span.slot * capacity + span.end))
        self.tokens = torch.tensor([tokens], device=device)
        self.positions = torch.tensor([positions], device=device)
        self.cache_rows = torch.tensor(rows, device=device)
        self.n_decode = len(singles)
        self._device = device
        self._masks: dict[tuple[int, int | None], torch.Tensor | None] = {}
        if singles:
            self.first_slot, self.last_slot = singles[0].slot, singles[-1].slot
            self.n_slots = self.last_slot - self.first_slot + 1
            self.n_keys = max(s.start for s in singles) + 1
            self.dense = self.n_slots == len(singles)
            self._offsets = [s.slot - self.first_slot for s in singles]
            self.decode_rows = torch.tensor(self._offsets, device=device)
            self._decode_starts = [s.start for s in singles]

    def decode_mask(self, window: int | None) -> torch.Tensor | None:
        """Which keys the decode rows may see, shape [n_slots, 1, 1, n_keys]; None where it is all of them."""
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
        """Causal mask of a chunk over its slot, shape [n_queries, n_keys]; None where plain causal attention does."""
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
    """Keys and values of all layers, each [slots, capacity, kv_heads, head_dim]; grows when a slot outgrows it."""

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._rows = 1
        self.capacity = _FIRST_CAPACITY
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cache of a layer; made when the layer first runs, shaped like `key`, [1, heads, tokens, head_dim]."""
        if index not in self._layers:
            self._layers[index] = (self._empty(key), self._empty(value))
        return self._layers[index]

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self._rows, self.capacity, like.shape[1], like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def reserve(self, n_rows: int, n_tokens: int) -> None:
        """Make sure slots 0 to n_rows - 1 can hold n_tokens tokens each."""
        if n_rows <= self._rows and n_tokens <= self.capacity:
            return
        old_rows = self._rows
        self._rows = max(self._rows, min(_power_of_two(n_rows), self._n_slots))
        old_capacity, self.capacity = self.capacity, max(self.capacity, _power_of_two(n_tokens))
        for index, pair in self._layers.items():
            grown = []
            for old in pair:
                new = torch.zeros(
                    (self._rows, self.capacity, *old.shape[2:]), dtype=old.dtype, device=old.device
                )
                new[:old_rows, :old_capacity] = old
                grown.append(new)
            self._layers[index] = (grown[0], grown[1])

    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        for pair in self._layers.values():
            for cache in pair:
                cache[dst, :n] = cache[src, :n]


class SlotAttention:
    """The attention function. `plan` is set before each step."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        self.plan: StepPlan

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
        plan = self.plan
        keys, values = self.cache.layer(module.layer_idx, key, value)
        keys.flatten(0, 1).index_copy_(0, plan.cache_rows, key[0].transpose(0, 1))
        values.flatten(0, 1).index_copy_(0, plan.cache_rows, value[0].transpose(0, 1))
        attend = scaled_dot_product_attention if softcap is None else _Softcapped(softcap)
        parts = []
        if plan.n_decode:
            parts.append(self._decode(query, keys, values, attend, scaling, sliding_window))
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
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attend: Any,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """One query per slot. Query heads that share a key head become the queries of that head."""
        plan = self.plan
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


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()

"""Slots: which tokens each one holds in the KV cache, and how a new prompt can reuse them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MIN_SHARED = 32
_STRIDE = 64


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence's place in the KV cache.

    Attributes:
        tokens: those whose keys and values are there.
        shareable: whether they are worth keeping for another prompt.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    shareable: bool = True
    busy: bool = False
    last_used: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry of the prompts in main memory that a prompt can begin from.

    Attributes:
        key: of the entry.
        n_tokens: how many tokens the entry has.
        shared: how many of them the prompt begins with.
    """

    key: bytes
    n_tokens: int
    shared: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes: the first `shared` tokens come from `donor` and go into `slot`.

    They come from the entry `kept` in main memory where there is no donor.
    """

    slot: Slot
    donor: Slot | None
    shared: int
    kept: Kept | None = None


def most_reusable(prompt: Sequence[int], least_chunk: int) -> int:
    """How many of a prompt's tokens may come from a cache.

    The logits of the last one are needed, and `least_chunk` are computed (see `ModelRunner`): an answer is not to
    depend on what is in the cache.
    """
    return max(len(prompt) - least_chunk, 0)


class SlotTable:
    """All slots of a model; `least_chunk` as its runner has it, `shortest` is its `shortest_prefix`."""

    def __init__(
        self, count: int, least_chunk: int = 2, shortest: Callable[[int], int] = lambda _: 0
    ) -> None:
        self._least_chunk = least_chunk
        self._shortest = shortest
        self.slots = [Slot(i) for i in range(count)]
        self._clock = 0

    @property
    def idle(self) -> list[Slot]:
        return [slot for slot in self.slots if not slot.busy]

    def place(self, prompt: Sequence[int], *, reuse: bool) -> Placement | None:
        """The best slot for a prompt, or None if all are busy.

        The donor is the slot with the longest common prefix, busy or idle. It is taken over where that keeps most
        of what it holds; otherwise its prefix is copied to another slot: one beside busy ones, since runners work
        on neighbouring slots together, and of those the one that was idle longest.
        """
        if not self.idle:
            return None
        oldest = self.oldest()
        if not reuse:
            return Placement(oldest, oldest, 0)
        limit = self.most_reusable(prompt)
        lengths = [min(common_prefix(slot.tokens, prompt), limit) for slot in self.slots]
        lengths = [
            n if n >= self._shortest(slot.index) else 0 for slot, n in zip(self.slots, lengths, strict=True)
        ]
        shared = max(lengths)
        if shared == 0:
            return Placement(oldest, oldest, 0)
        donors = [slot for slot, n in zip(self.slots, lengths, strict=True) if n == shared]
        for donor in donors:
            if not donor.busy and shared * 2 >= len(donor.tokens):
                return Placement(donor, donor, shared)
        return Placement(oldest, donors[0], shared)

    def oldest(self) -> Slot:
        """The idle slot for a prompt that goes on from no slot; there has to be one."""
        return min(self.idle, key=self._preference)

    def most_reusable(self, prompt: Sequence[int]) -> int:
        """How many of a prompt's tokens may come from a cache."""
        return most_reusable(prompt, self._least_chunk)

    def _preference(self, slot: Slot) -> tuple[int, int, int]:
        at, last = slot.index, len(self.slots) - 1
        busy_neighbours = (at > 0 and self.slots[at - 1].busy) + (at < last and self.slots[at + 1].busy)
        return -busy_neighbours, slot.last_used, at

    def take(self, slot: Slot) -> None:
        self._clock += 1
        slot.busy, slot.last_used = True, self._clock

    def release(self, slot: Slot) -> None:
        """The slot's tokens stay, for a later prompt to reuse."""
        self._clock += 1
        slot.busy, slot.last_used = False, self._clock


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix of two lists."""
    end = min(len(a), len(b))
    at = 0
    while at < end and a[at : at + _STRIDE] == b[at : at + _STRIDE]:
        at += _STRIDE
    at = min(at, end)
    while at < end and a[at] == b[at]:
        at += 1
    return at

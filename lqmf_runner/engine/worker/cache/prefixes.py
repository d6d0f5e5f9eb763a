"""Puts prompts into slots, with what of their keys and values is there already: in a slot, or in main memory."""

from __future__ import annotations

from collections.abc import Sequence

from ....errors import LqmfError
from ..runners.base import ModelRunner
from .prompts import Pages, PromptCache
from .slots import MIN_SHARED, Kept, Placement, Slot, SlotTable


class Prefixes:
    """The slots of a model, and the prompts that have left them.

    What a slot holds is kept in main memory when a prompt takes the slot that does not go on from it. A prompt that
    goes on from at least half of it replaces it, as a conversation does whose last turn was written anew.

    Args:
        reuse: whether prompts may reuse anything.
        prompts: what is kept in main memory.
    """

    def __init__(self, runner: ModelRunner, prompts: PromptCache, *, reuse: bool) -> None:
        self._runner = runner
        self._keeps = reuse and runner.keeps_prefixes
        self.table = SlotTable(runner.info.max_slots, runner.least_chunk, runner.shortest_prefix)
        self.prompts = prompts

    def place(self, tokens: Sequence[int], *, reuse: bool) -> Placement | None:
        """The best slot for a prompt and what it reuses, or None if all slots are busy."""
        placement = self.table.place(tokens, reuse=reuse)
        if placement is None or not (reuse and self._keeps):
            return placement
        whole = not self._runner.cuts_restored
        kept = self.prompts.find(tokens, self.table.most_reusable(tokens), whole=whole)
        if kept is None or kept.shared < placement.shared + MIN_SHARED:
            return placement
        return Placement(self.table.oldest(), None, kept.shared, kept)

    def start(self, placement: Placement, tokens: Sequence[int], *, shareable: bool) -> int:
        """Put the beginning of a prompt into its slot, which is busy from now on.

        Args:
            shareable: whether what the slot will hold may be kept for other prompts.

        Returns:
            How many of its tokens the slot holds.
        """
        slot, donor, shared = placement.slot, placement.donor, placement.shared
        # Before room is made for another.
        pages = self.prompts.take(placement.kept) if placement.kept else None
        if donor is not slot or not shared:
            self._keep(slot)
        if placement.kept is not None and pages is not None:
            shared = self._bring_back(slot, placement.kept, pages)
        elif donor is None or donor is slot:
            self._runner.truncate(slot.index, shared)
        else:
            self._runner.copy_prefix(donor.index, slot.index, shared)
        slot.tokens, slot.shareable = list(tokens[:shared]), shareable
        self.table.take(slot)
        return shared

    def forget(self, slot: Slot) -> None:
        """Release what a slot holds."""
        self._runner.truncate(slot.index, 0)
        slot.tokens = []

    def reset(self) -> None:
        """Forget what idle slots and main memory hold, so that no later prompt reuses it."""
        for slot in self.table.idle:
            self.forget(slot)
        self.prompts.shrink(0)

    def _keep(self, slot: Slot) -> None:
        n = len(slot.tokens)
        if self._keeps and slot.shareable and n >= MIN_SHARED:
            n_bytes = self._runner.saved_bytes(slot.index, n)
            self.prompts.put(slot.tokens, n_bytes, lambda pages: self._runner.save(slot.index, n, pages))

    def _bring_back(self, slot: Slot, kept: Kept, pages: Pages) -> int:
        """Returns how many tokens came back: none if the runner cannot read what it wrote."""
        self.forget(slot)
        try:
            self._runner.restore(slot.index, kept.n_tokens, pages)
        except LqmfError:
            self.prompts.discard(kept)
            self._runner.truncate(slot.index, 0)
            return 0
        self._runner.truncate(slot.index, kept.shared)
        self.prompts.count_hit(kept)
        return kept.shared

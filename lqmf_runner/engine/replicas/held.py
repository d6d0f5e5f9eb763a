"""Which prompts a replica was sent last, and so how much of a new prompt its KV cache probably holds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Sequence


class HeldPrompts:
    """The last `most` prompts of one replica, each as its chain of block hashes.

    It mirrors slots: a prompt that continues a held one takes its place. The engine may have forgotten one of them,
    in which case the prompt is computed again as it would be anywhere else.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # By the last hash, the longest unused first.
        self._chains: OrderedDict[int, Sequence[int]] = OrderedDict()
        self._blocks: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._chains)

    def matched(self, chain: Sequence[int]) -> int:
        """How many blocks from the beginning are held."""
        return bisect_left(chain, True, key=lambda block: block not in self._blocks)

    def add(self, chain: Sequence[int]) -> None:
        """Remember a prompt."""
        if not chain:
            return
        for block in chain:
            if block in self._chains:
                self._remove(self._chains.pop(block))
        self._chains[chain[-1]] = chain
        self._blocks.update(chain)
        while len(self._chains) > self._most:
            self._remove(self._chains.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget all."""
        self._chains.clear()
        self._blocks.clear()

    def _remove(self, chain: Sequence[int]) -> None:
        for block in chain:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]

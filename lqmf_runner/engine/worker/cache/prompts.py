"""Prompts that are kept in main memory once their slot is needed for another.

An entry is what a slot held: its tokens, and a copy of their keys and values as the runner writes it. It comes back
by copy when a prompt begins with the same tokens. Tokens are compared, and nothing else: a text that another chat
template renders has other tokens.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ....cgroup import available_memory, total_memory
from ....types import PromptCacheUse
from .slots import MIN_SHARED, Kept

Pages = NDArray[np.uint8]

_MOST_BYTES = 8 << 30
_SHARE = 10  # by default the cache takes at most a tenth of the memory
_SPARE = 20  # it leaves at least a twentieth of the memory free
_TOKEN = array("i").itemsize


class PromptCache:
    """Entries by their tokens, the longest unused first.

    An entry that is the beginning of another holds nothing that the other does not, and is dropped. An entry that
    comes back whole is dropped too, because its slot holds it from then on.

    Args:
        limit: most bytes of keys and values; 0 keeps nothing.
        free: gives the bytes of memory that are free.
    """

    def __init__(self, limit: int, free: Callable[[], int] | None = None) -> None:
        self._limit = limit
        self._free = free or _free_bytes
        self._entries: dict[bytes, Pages] = {}
        self._bytes = self._hits = self._restored = 0
        self._changed = limit > 0

    @property
    def n_bytes(self) -> int:
        """What all entries take."""
        return self._bytes

    def find(self, tokens: Sequence[int], most: int, *, whole: bool = False) -> Kept | None:
        """The entry with which the prompt has the longest beginning in common, of at most `most` tokens.

        Args:
            whole: only entries that the prompt begins with as a whole.
        """
        packed = _packed(tokens[:most])
        found = None
        wanted = packed[: MIN_SHARED * _TOKEN]  # a longer entry than the one found begins with all of this
        if len(wanted) < MIN_SHARED * _TOKEN:
            return None
        for key in self._entries:
            if key.startswith(wanted):
                shared, n_tokens = _n_shared(key, packed), len(key) // _TOKEN
                if whole and shared < n_tokens:
                    continue
                found = Kept(key, n_tokens, shared)
                if shared == len(packed) // _TOKEN:
                    break
                wanted = packed[: (shared + 1) * _TOKEN]
        return found

    def take(self, kept: Kept) -> Pages:
        """The keys and values of an entry, which stays only if the prompt does not begin with all of it."""
        pages = self._entries[kept.key]
        self._drop(kept.key)
        if kept.shared < kept.n_tokens:
            self._add(kept.key, pages)
        return pages

    def count_hit(self, kept: Kept) -> None:
        """A prompt began from this entry."""
        self._hits += 1
        self._restored += kept.shared
        self._changed = True

    def discard(self, kept: Kept) -> None:
        """Drop an entry, if it is there, that cannot be used."""
        if kept.key in self._entries:
            self._drop(kept.key)

    def put(self, tokens: Sequence[int], n_bytes: int, fill: Callable[[Pages], None]) -> None:
        """Keep what a slot holds, if there is room once others are dropped, the longest unused first.

        Args:
            n_bytes: what its keys and values take.
            fill: writes them.
        """
        key = _packed(tokens)
        for other in self._entries:
            if other.startswith(key):
                self._add(other, self._drop(other))  # used now
                return
        room = min(self._limit, self._bytes + self._free())
        if n_bytes > room:
            return
        for other in [other for other in self._entries if key.startswith(other)]:
            self._drop(other)
        self.shrink(room - n_bytes)
        try:
            memory = mmap.mmap(-1, n_bytes)  # goes back to the system with the last reference
        except OSError:
            return
        pages = np.frombuffer(memory, np.uint8)
        fill(pages)
        self._add(key, pages)

    def shrink(self, n_bytes: int) -> None:
        """Drop entries, the longest unused first, until the rest takes at most so many bytes."""
        while self._bytes > n_bytes:
            self._drop(next(iter(self._entries)))

    def changed_use(self) -> PromptCacheUse | None:
        """How it is used, or None if that is as it was at the last call."""
        if not self._changed:
            return None
        self._changed = False
        return PromptCacheUse(
            limit_mb=self._limit / 1e6,
            mb=self._bytes / 1e6,
            prompts=len(self._entries),
            tokens=sum(len(key) for key in self._entries) // _TOKEN,
            hits=self._hits,
            restored_tokens=self._restored,
        )

    def _add(self, key: bytes, pages: Pages) -> None:
        self._entries[key] = pages
        self._bytes += pages.nbytes
        self._changed = True

    def _drop(self, key: bytes) -> Pages:
        pages = self._entries.pop(key)
        self._bytes -= pages.nbytes
        self._changed = True
        return pages


def limit_bytes(setting_mb: float | None, sharing: int = 1) -> int:
    """`backend.prompt_cache_mb` in bytes; None is a tenth of the memory, but at most 8 GiB.

    Args:
        sharing: workers of one model that divide this tenth of the memory of their machine or container.
    """
    if setting_mb is not None:
        return int(setting_mb * 1e6)
    return min(total_memory() // _SHARE, _MOST_BYTES) // sharing


def _free_bytes() -> int:
    return max(available_memory() - total_memory() // _SPARE, 0)


def _packed(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()


def _n_shared(a: bytes, b: bytes) -> int:
    """How many tokens two packed lists have in common at their beginning."""
    n = min(len(a), len(b)) // _TOKEN
    different = np.frombuffer(a, np.intc, n) != np.frombuffer(b, np.intc, n)
    return int(different.argmax()) if different.any() else n

"""Responses that the server stores for OpenAI's Responses API, in memory, visible to their own key only."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..openai_api.responses.schemas import OutputItem, Response

Item = dict[str, Any]
_NOTHING: OrderedDict[str, KeptResponse] = OrderedDict()


class Turn:
    """The items that one request or one answer added to a conversation, as JSON.

    All responses of a conversation hold the same turns, so that each is in memory once.
    """

    __slots__ = ("encoded", "holders", "ids")

    def __init__(self, items: Sequence[Item | OutputItem]) -> None:
        self.ids = tuple(item["id"] if isinstance(item, dict) else item.id for item in items)
        self.encoded = tuple(map(msgspec.json.encode, items))
        self.holders = 0

    @property
    def size(self) -> int:
        """Bytes of its items."""
        return sum(map(len, self.encoded))

    @property
    def items(self) -> list[Item]:
        """The items, which are the caller's own."""
        return [msgspec.json.decode(item) for item in self.encoded]


@dataclass
class KeptResponse:
    """A response, as JSON, and the turns of its conversation: the last two are its own input and answer.

    Attributes:
        conversation: id of the response that began the conversation.
        last_used: by the clock of the store.
    """

    id: str
    conversation: str
    data: bytes
    turns: tuple[Turn, ...]
    last_used: float = 0.0

    @property
    def response(self) -> Response:
        """The response."""
        return msgspec.json.decode(self.data, type=Response)

    @property
    def input_items(self) -> list[Item]:
        """The whole input of the model: the conversation before it, and its own input."""
        return [item for turn in self.turns[:-1] for item in turn.items]

    @property
    def items(self) -> list[Item]:
        """The conversation with its answer."""
        return [item for turn in self.turns for item in turn.items]


class KeptResponses:
    """Stores at most `limit` responses of at most `max_bytes` together, each for `timeout_s` after its last use.

    Where there are too many, the owner that has most loses the one it has not used for longest, so that no owner
    drives out what others have.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(
        self, *, limit: int, max_bytes: float, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._clock = clock
        self._owners: dict[str, OrderedDict[str, KeptResponse]] = {}
        self._bytes: dict[str, int] = {}
        self._items: dict[tuple[str, str], tuple[bytes, ...]] = {}  # by owner and id, the newest last

    def __len__(self) -> int:
        self._expire()
        return sum(map(len, self._owners.values()))

    @property
    def n_bytes(self) -> int:
        """Bytes of all stored responses."""
        return sum(self._bytes.values())

    def keep(
        self, owner: str, response: Response, given: Sequence[Item], previous: KeptResponse | None
    ) -> None:
        """Keep a response that has ended.

        Args:
            given: the items of its input.
            previous: the response whose conversation it goes on with.
        """
        self._expire()
        turns = (*(previous.turns if previous else ()), Turn(given), Turn(response.output))
        kept = KeptResponse(
            response.id,
            previous.conversation if previous else response.id,
            msgspec.json.encode(response),
            turns,
            self._clock(),
        )
        self._owners.setdefault(owner, OrderedDict())[kept.id] = kept
        self._count(owner, kept, 1)
        while self._owners and sum(map(len, self._owners.values())) > self._limit:
            self._drop_oldest(max(self._owners, key=lambda one: len(self._owners[one])))
        while self._owners and self.n_bytes > self._max_bytes:
            self._drop_oldest(max(self._owners, key=self._bytes.__getitem__))

    def find(self, owner: str, response_id: str) -> KeptResponse | None:
        """The response of this owner with this id, or None. This counts as a use."""
        self._expire()
        mine = self._owners.get(owner, _NOTHING)
        kept = mine.get(response_id)
        if kept is not None:
            kept.last_used = self._clock()
            mine.move_to_end(response_id)
        return kept

    def find_item(self, owner: str, item_id: str) -> Item | None:
        """The input or output item of this owner with this id, or None."""
        self._expire()
        found = self._items.get((owner, item_id))
        return msgspec.json.decode(found[-1]) if found else None

    def forget(self, owner: str, response_id: str) -> bool:
        """Delete a response; False if there is none. Responses that continue it keep their conversation."""
        self._expire()
        if response_id not in self._owners.get(owner, _NOTHING):
            return False
        self._drop(owner, response_id)
        return True

    def _expire(self) -> None:
        oldest = self._clock() - self._timeout_s
        for owner, mine in list(self._owners.items()):
            while mine and next(iter(mine.values())).last_used <= oldest:
                self._drop_oldest(owner)

    def _drop_oldest(self, owner: str) -> None:
        self._drop(owner, next(iter(self._owners[owner])))

    def _drop(self, owner: str, response_id: str) -> None:
        self._count(owner, self._owners[owner].pop(response_id), -1)
        if not self._owners[owner]:
            del self._owners[owner], self._bytes[owner]

    def _count(self, owner: str, kept: KeptResponse, change: int) -> None:
        """Count a response's bytes, and those of its turns that no other response holds."""
        size = len(kept.data)
        for turn in kept.turns:
            held = turn.holders + change
            if 0 in (turn.holders, held):
                size += turn.size
                self._list_items(owner, turn, listed=held > 0)
            turn.holders = held
        self._bytes[owner] = self._bytes.get(owner, 0) + change * size

    def _list_items(self, owner: str, turn: Turn, *, listed: bool) -> None:
        """Add a turn's items to the index by id, or remove them. Several turns may have an item with the same id."""
        for item_id, encoded in dict(zip(turn.ids, turn.encoded, strict=True)).items():
            key = (owner, item_id)
            others = tuple(one for one in self._items.get(key, ()) if one is not encoded)
            if listed:
                self._items[key] = (*others, encoded)
            elif others:
                self._items[key] = others
            else:
                self._items.pop(key, None)

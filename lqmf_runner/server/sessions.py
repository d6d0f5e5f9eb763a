"""Conversations that the server stores for the native API.

The engine reuses the KV cache of a common prefix, so a stored conversation costs only its new turn.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable

from ..errors import ConflictError, InvalidRequestError
from ..types import Message

Key = tuple[str, str, str]
"""The owner, the model, and the client's `session_id`."""


class Session:
    """One conversation. It is `busy` while its last turn is being answered."""

    def __init__(self) -> None:
        self.messages: tuple[Message, ...] = ()
        self.last_used = 0.0
        self.busy = False


class Sessions:
    """Stores at most `limit` conversations of at most `max_messages` messages, each for `timeout_s` after its last use.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(
        self, *, limit: int, max_messages: int, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._max_messages = max_messages
        self._timeout_s = timeout_s
        self._clock = clock
        self._sessions: OrderedDict[Key, Session] = OrderedDict()

    def __len__(self) -> int:
        self._expire()
        return len(self._sessions)

    def turn(self, key: Key, new: tuple[Message, ...]) -> Turn:
        """A turn of a conversation. It is stored when its answer is passed to `Turn.answered`.

        Entering it raises:
            ConflictError: the conversation is answering already.
            InvalidRequestError: it has become too long.
        """
        return _KeptTurn(self, key, new)

    def begin(self, key: Key, new: tuple[Message, ...]) -> tuple[Session, tuple[Message, ...]]:
        """Take the conversation for one turn. Returns it, and its messages with the new ones."""
        self._expire()
        session = self._sessions.get(key) or Session()
        if session.busy:
            raise ConflictError(
                "this session is answering already", hint="wait for the answer, or use another one"
            )
        messages = _joined(session.messages, new)
        if len(messages) + 1 > self._max_messages:
            raise InvalidRequestError(
                f"the session would have {len(messages) + 1} messages, at most {self._max_messages} are kept",
                hint="start another session",
            )
        session.busy = True
        self._sessions[key] = session  # no other session is evicted for it before it has an answer
        return session, messages

    def end(self, key: Key, session: Session, turn: Turn) -> None:
        """Store the turn if it has an answer, and release the conversation."""
        session.busy = False
        if self._sessions.get(key) is session:  # otherwise it was deleted meanwhile
            if turn.answer is not None:
                session.messages = (*turn.messages, Message("assistant", turn.answer))
                self._keep(key, session)
            elif not session.messages:
                del self._sessions[key]

    def forget(self, key: Key) -> bool:
        """Delete a conversation; False if there is none."""
        return self._sessions.pop(key, None) is not None

    def _keep(self, key: Key, session: Session) -> None:
        session.last_used = self._clock()
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        idle = (key for key, session in self._sessions.items() if not session.busy)
        too_many = max(len(self._sessions) - self._limit, 0)
        for longest_unused in list(itertools.islice(idle, too_many)):
            del self._sessions[longest_unused]

    def _expire(self) -> None:
        oldest = self._clock() - self._timeout_s
        unused = itertools.takewhile(lambda item: item[1].last_used <= oldest, self._sessions.items())
        for key in [key for key, session in unused if not session.busy]:
            del self._sessions[key]


class Turn:
    """A question, and its answer once it is known. It is a context that is entered while the answer is generated."""

    def __init__(self, messages: tuple[Message, ...]) -> None:
        self.messages = messages
        self.answer: str | None = None

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end: a turn without a session is forgotten."""

    def answered(self, text: str) -> None:
        """Store the turn with this answer."""
        self.answer = text


class _KeptTurn(Turn):
    """A turn of a stored conversation. The conversation accepts no other turn while this one is entered."""

    def __init__(self, sessions: Sessions, key: Key, new: tuple[Message, ...]) -> None:
        super().__init__(new)
        self._sessions = sessions
        self._key = key

    def __enter__(self) -> Turn:
        self._session, self.messages = self._sessions.begin(self._key, self.messages)
        return self

    def __exit__(self, *error: object) -> None:
        self._sessions.end(self._key, self._session, self)


def _joined(kept: tuple[Message, ...], new: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with the new messages. A new system prompt replaces the old one."""
    if new and new[0].role == "system" and kept and kept[0].role == "system":
        return (new[0], *kept[1:], *new[1:])
    if new and new[0].role == "system":
        return (new[0], *kept, *new[1:])
    return (*kept, *new)

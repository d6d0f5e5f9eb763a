"""Conversations in files, and the folder of the chats' input history and saved conversations."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec

from ...errors import LqmfError, UserInputError
from .conversation import Turn

HOME_VARIABLE = "LQMF_STATE_DIR"
LAST = "last"
_NAME = re.compile(r"\w[\w .-]{0,63}")
_MARK = "lqmf-chat"


class SavedChat(msgspec.Struct, kw_only=True):
    """A conversation in a file. `kind` says what the file is; `settings` are those of the sampling."""

    kind: str = _MARK
    model: str = ""
    system: str | None = None
    settings: dict[str, object] = {}
    turns: list[Turn] = []


def home() -> Path:
    """The folder of chats: `$LQMF_STATE_DIR/chat`, or `lqmf/chat` in the user's folder for state."""
    own = os.environ.get(HOME_VARIABLE)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return (Path(own) if own else Path(state) / "lqmf") / "chat"


def saved_names() -> list[str]:
    """The conversations in the folder of chats."""
    return sorted(path.stem for path in home().glob("*.json"))


def place(name: str) -> Path:
    """The file of a conversation: a name is in the folder of chats, all else is a path.

    Raises:
        UserInputError: it is neither.
    """
    if "/" in name or name.endswith((".json", ".md")):
        return Path(name).expanduser()
    if not _NAME.fullmatch(name):
        raise UserInputError(
            "that is no name for a conversation", hint="use letters, digits and dashes, or a path"
        )
    return home() / f"{name}.json"


def save(path: Path, chat: SavedChat) -> None:
    """Write a conversation, for its owner only; `.md` as a text to read. A file that is there is replaced as a whole.

    Raises:
        LqmfError: it cannot be written; a file that was there is as before.
    """
    data = _as_text(chat).encode() if path.suffix == ".md" else msgspec.json.format(msgspec.json.encode(chat))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise LqmfError(
            f"{path} cannot be written: {error.strerror}", hint="save it elsewhere: /save PATH"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def load(path: Path) -> SavedChat:
    """Read a conversation.

    Raises:
        UserInputError: there is none.
    """
    try:
        chat = msgspec.json.decode(path.read_bytes(), type=SavedChat)
    except OSError as error:
        names = ", ".join(saved_names()) or "none yet"
        raise UserInputError(
            f"{path} cannot be read: {error.strerror}", hint=f"saved conversations: {names}"
        ) from error
    except msgspec.DecodeError:
        chat = None
    if chat is None or chat.kind != _MARK:
        raise UserInputError(f"{path} is not a saved conversation", hint="name a file that /save has written")
    return chat


def _as_text(chat: SavedChat) -> str:
    parts = [f"# Conversation with {chat.model}"]
    parts += [f"**System**\n\n{chat.system}"] if chat.system else []
    for turn in chat.turns:
        ending = f"\n\n*({turn.ended})*" if turn.cut else ""
        parts += [f"**You**\n\n{turn.user}", f"**{chat.model}**\n\n{turn.answer}{ending}"]
    return "\n\n".join(parts) + "\n"

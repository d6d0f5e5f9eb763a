"""mode=keys: the API keys of the server."""

from __future__ import annotations

from pathlib import Path

from ..config import KeysMode
from ..runs.context import RunContext
from .base import Mode


def run(context: RunContext) -> int:
    """Make a key and print it, remove one, or list their names and roles.

    Raises:
        UserInputError: the name is taken or unknown, or the file is not one of keys.
    """
    from ..server.guards.keys import DEFAULT_FILE, ROLES, add_key, read_key_file, remove_key

    mode = context.config.mode
    assert isinstance(mode, KeysMode)
    path = Path(context.config.server.keys_file or DEFAULT_FILE)
    if mode.add is not None:
        print(add_key(path, mode.add, (mode.role,) if mode.role else ROLES))
        return 0
    if mode.remove is not None:
        remove_key(path, mode.remove)
        return 0
    for key in read_key_file(path) if path.exists() else ():
        print(f"{key.name}\t{','.join(key.roles)}")
    return 0


MODE = Mode(
    KeysMode,
    "make, remove or list API keys of the server",
    "keys --add alice --role use",
    run,
    needs_model=False,
    leaves_folder=False,
)

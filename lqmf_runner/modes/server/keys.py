"""mode=keys: the API keys of the server."""

from __future__ import annotations

import sys
from pathlib import Path

from ...config import KeysMode
from ...runs.context import RunContext
from ..base import Mode


def run(context: RunContext) -> int:
    """Make a key and print it, remove one, or list their names and roles.

    Raises:
        UserInputError: the name is taken or unknown, or the file is not one of keys.
    """
    from ...server.guards.keys import DEFAULT_FILE, ROLES, add_key, read_key_file, remove_key

    mode = context.config.mode
    assert isinstance(mode, KeysMode)
    path = Path(context.config.server.keys_file or DEFAULT_FILE)
    if mode.add is not None:
        print(add_key(path, mode.add, ROLES if mode.role == "both" else (mode.role,)))
        print(
            f"This key is not shown again; its hash is in {path}. Servers that read that file ask for a key:"
            " Authorization: Bearer <key>",
            file=sys.stderr,
        )
        return 0
    if mode.remove is not None:
        remove_key(path, mode.remove)
        if not read_key_file(path):
            print(
                f"no key is left in {path}: servers that read it let nobody in; delete the file to serve without keys",
                file=sys.stderr,
            )
        return 0
    keys = read_key_file(path) if path.exists() else []
    if not keys:
        print("no keys yet", file=sys.stderr)
    for key in keys:
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

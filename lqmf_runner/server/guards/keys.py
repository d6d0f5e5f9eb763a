"""API keys: their sources, their roles, and the lookup of a request's key.

Only the hash of a key is kept. Keys made by `mode=keys` have 256 random bits, so that a plain SHA-256 cannot be
reversed, and a stolen file is useless.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ...errors import UserInputError

log = logging.getLogger(__name__)

KEYS_VARIABLE = "LQMF_API_KEYS"
DEFAULT_FILE = "api-keys.json"
USE, ADMIN = "use", "admin"
ROLES = (USE, ADMIN)
_RELOAD_S = 1.0
_PLAIN = re.compile(r"[!-9;-~]+")  # printable ASCII without the colon, which separates the key from its role
_NAME = re.compile(r"[\w.@-]{1,64}")


class ApiKey(msgspec.Struct, frozen=True):
    """A stored key. `name` stands for it in logs and limits; `sha256` is the hash of the key, in hex."""

    name: str
    sha256: str
    roles: tuple[str, ...] = ROLES

    @property
    def admin(self) -> bool:
        """Whether it may load and unload models."""
        return ADMIN in self.roles


def hash_key(key: str | bytes) -> str:
    """The hash that is stored of a key."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def parse_keys(text: str) -> list[ApiKey]:
    """Keys out of `LQMF_API_KEYS`: `key`, `key:use` or `key:admin`, with commas between them.

    Raises:
        UserInputError: there is no key in it, a role is unknown, or a key cannot be sent in a header. No message
            shows a key.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise UserInputError(
            f"{KEYS_VARIABLE} is set but holds no key", hint="unset it, or give key[:role][,...]"
        )
    roles: dict[str, tuple[str, ...]] = {}
    for number, entry in enumerate(entries, 1):
        key, _, role = entry.partition(":")
        if role not in ("", *ROLES):
            raise UserInputError(
                f"{KEYS_VARIABLE}: entry {number} has an unknown role",
                hint=f"roles: {', '.join(ROLES)}; none is both",
            )
        if not _PLAIN.fullmatch(key):
            raise UserInputError(
                f"{KEYS_VARIABLE}: entry {number} is not a key",
                hint="use printable ASCII without spaces and colons",
            )
        roles[key] = tuple(sorted({*roles.get(key, ()), *((role,) if role else ROLES)}))
    return [
        ApiKey(f"env-{number}", hash_key(key), given) for number, (key, given) in enumerate(roles.items(), 1)
    ]


def read_key_file(path: Path) -> list[ApiKey]:
    """The keys of a file that `mode=keys` has made.

    Raises:
        UserInputError: it cannot be read, or is not such a file.
    """
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=list[ApiKey])
    except OSError as error:
        raise UserInputError(
            f"the key file {path} cannot be read: {error.strerror}",
            hint="make it with `lqmf keys --add NAME`",
        ) from None
    except msgspec.DecodeError as error:
        raise UserInputError(
            f"{path} is not a key file: {error}", hint="make it with `lqmf keys --add NAME`"
        ) from None
    for key in keys:
        if not set(key.roles) <= set(ROLES) or not re.fullmatch("[0-9a-f]{64}", key.sha256):
            raise UserInputError(
                f"{path}: the entry '{key.name}' is damaged", hint="remove it and make a new key"
            )
    return keys


def add_key(path: Path, name: str, roles: tuple[str, ...] = ROLES) -> str:
    """Make a key, keep its hash in the file, and return the key: it is shown this once.

    Raises:
        UserInputError: the name is taken or is none, or the file is not a key file.
    """
    if not _NAME.fullmatch(name):
        raise UserInputError(f"'{name}' is no name for a key", hint="letters, digits and . _ @ -, at most 64")
    keys = read_key_file(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise UserInputError(
            f"there is a key '{name}' already", hint=f"remove it first: lqmf keys --remove {name}"
        )
    key = f"lqmf-{secrets.token_urlsafe(32)}"
    _write_key_file(path, [*keys, ApiKey(name, hash_key(key), roles)])
    return key


def remove_key(path: Path, name: str) -> None:
    """Remove a key from the file. A running server refuses it within a second.

    Raises:
        UserInputError: there is no such key.
    """
    keys = read_key_file(path)
    left = [key for key in keys if key.name != name]
    if len(left) == len(keys):
        names = ", ".join(key.name for key in keys) or "none"
        raise UserInputError(f"there is no key '{name}'", hint=f"there are: {names}")
    _write_key_file(path, left)


class KeyRing:
    """The keys of a server. A file is read again when it changes; a damaged file changes nothing."""

    def __init__(
        self,
        fixed: Iterable[ApiKey] = (),
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = tuple(fixed)
        self._file = file
        self._clock = clock
        self._stamp = self._file_stamp()
        self._from_file = tuple(read_key_file(file)) if file else ()
        self._checked = clock()
        # Removing all keys must never open the server.
        self.required = bool(self._fixed or file)

    @property
    def file(self) -> Path | None:
        """The file of keys, if there is one."""
        return self._file

    @property
    def admits_nobody(self) -> bool:
        """Whether a key is required and none is left."""
        return self.required and not (self._fixed or self._from_file)

    def find(self, presented: bytes) -> ApiKey | None:
        """The key with this value, or None. It takes the same time for every key and for none."""
        self._refresh()
        digest = hash_key(presented)
        found = None
        for key in (*self._fixed, *self._from_file):
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _refresh(self) -> None:
        now = self._clock()
        if self._file is None or now - self._checked < _RELOAD_S:
            return
        self._checked = now
        if (stamp := self._file_stamp()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._from_file = tuple(read_key_file(self._file))
        except UserInputError as error:
            log.warning("the keys stay as they were: %s", error.message)

    def _file_stamp(self) -> tuple[int, int, int] | None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                status = self._file.stat()
                return status.st_mtime_ns, status.st_ino, status.st_size
        return None


def load_keys(keys_file: str | None) -> KeyRing:
    """The keys that the environment and the configuration give; `api-keys.json` is used where it exists.

    Raises:
        UserInputError: either is malformed, or a file that was named is missing.
    """
    text = os.environ.get(KEYS_VARIABLE)
    file = Path(keys_file or DEFAULT_FILE)
    return KeyRing(parse_keys(text) if text else (), file if keys_file or file.exists() else None)


def _write_key_file(path: Path, keys: list[ApiKey]) -> None:
    """Replace the file at once, readable by its owner alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n")
        os.replace(name, path)
    except OSError as error:
        raise UserInputError(f"the key file {path} cannot be written: {error.strerror}") from None

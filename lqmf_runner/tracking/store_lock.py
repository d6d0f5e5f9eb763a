"""Locks on a store, so that of several processes that come at once one makes it and the others find it.

MLflow makes the tables of an empty database without a lock of its own: of eight that came at once, seven failed. An
MLflow server needs no lock of ours, because it makes its tables when it starts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..config import TrackingConfig
from ..errors import MissingDependencyError, TrackingError
from ..install import install_line
from ..redaction import redact_text
from . import is_postgres

_ADVISORY_KEY = 0x6C716D66  # "lqmf": any number that others do not use
_CONNECT_S = 5
# A network's file system may have no locks, or none on folders.
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@contextlib.contextmanager
def locked_store(config: TrackingConfig, folder: Path) -> Iterator[None]:
    """Lock a local store against other processes of ours while a run is sent to it.

    A database or a server takes many at once, so that only runs from the same folder wait for each other there.

    Args:
        folder: held where the store is not a SQLite file, whose own folder is made if it is not there.
    """
    if is_postgres(config.uri):
        yield
        return
    with _locked(os.open(_sqlite_folder(config) or folder, os.O_RDONLY)):
        yield


@contextlib.contextmanager
def locked_registry(config: TrackingConfig) -> Iterator[None]:
    """Hold the registry of a store against other processes of this user while an alias is moved.

    Of a SQLite file its folder is held, as by `locked_store`. For any other store it is a file in the temporary folder
    with a name of its own. A PostgreSQL database is not held here but by `locked_database`.

    Raises:
        TrackingError: the file belongs to somebody else, or cannot be made.
    """
    if is_postgres(config.uri):
        yield
        return
    if folder := _sqlite_folder(config):
        descriptor = os.open(folder, os.O_RDONLY)
    else:
        store = hashlib.blake2b(config.uri.rstrip("/").encode(), digest_size=8).hexdigest()
        file = Path(tempfile.gettempdir()) / f"lqmf-{os.getuid()}-registry-{store}.lock"
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise TrackingError(
                f"the registry cannot be locked: {file.name} in the temporary folder: {error.strerror}",
                hint="delete that file, or set TMPDIR to a folder that you can write",
            ) from None
    with _locked(descriptor):
        yield


def _sqlite_folder(config: TrackingConfig) -> Path | None:
    """The folder of a SQLite file, made if it is not there; None for another store."""
    if not config.uri.startswith("sqlite:///") or config.uri.endswith(":memory:"):
        return None
    folder = Path(config.uri.removeprefix("sqlite:///")).parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Hold an open file or folder, and close it."""
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_database(config: TrackingConfig) -> Iterator[None]:
    """Hold a PostgreSQL database for a moment, against all machines; other stores are not held.

    Raises:
        TrackingError: it cannot be reached, or refuses the login.
        MissingDependencyError: its driver is not installed.
    """
    if not is_postgres(config.uri):
        yield
        return
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        url = make_url(config.uri)
        wait = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_S}
        connection = create_engine(url, poolclass=NullPool, connect_args=wait).connect()
    except ImportError:
        raise MissingDependencyError(
            "tracking to PostgreSQL needs a package that is not installed", hint=install_line("postgres")
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        raise TrackingError(
            f"MLflow's database {redact_text(config.uri)} cannot be reached: {database_words(error)}"
        ) from None
    with connection:  # closing it releases the lock
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_KEY})
        yield


def database_words(error: Exception) -> str:
    """The message of a database, without the statement and the links that SQLAlchemy adds."""
    said = " ".join(str(error).partition("[SQL:")[0].partition("(Background on")[0].split())
    if said.startswith("(") and ") " in said:  # "(psycopg.OperationalError) connection failed: ..."
        said = said.partition(") ")[2]
    return redact_text(said)

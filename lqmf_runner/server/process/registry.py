"""The servers that run for this user on this machine: one small file each, in a folder of the user.

A file that is left behind does no harm: a record counts only while its process lives. A process is identified by its
number and the time of its start, so that a reused number is not mistaken for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import tempfile
from pathlib import Path

import msgspec

from ... import __version__
from ...errors import UserInputError
from ...results.times import now

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE = "LQMF_RUNTIME_DIR"
STARTING, READY, DRAINING = "starting", "ready", "draining"


class ServerRecord(msgspec.Struct, kw_only=True):
    """A server. `started_at` is ISO 8601; `process_start` is in clock ticks since the machine's start.

    `certfile` is its certificate, by which clients on this machine know it; empty without HTTPS.
    """

    pid: int
    process_start: int
    host: str
    port: int
    url: str
    run_dir: str
    started_at: str
    version: str
    models: list[str]
    state: str = STARTING
    certfile: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        return process_start(self.pid) == self.process_start

    def enter(self, state: str) -> None:
        """Write the record with this state. If that fails, the server continues but is not found."""
        self.state = state
        try:
            path = _path(self.pid)
            part = path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(self))
            os.replace(part, path)
        except (OSError, UserInputError) as error:
            log.warning("mode=status will not find this server: %s", error)

    def remove(self) -> None:
        """Delete the record."""
        with contextlib.suppress(OSError, UserInputError):
            _path(self.pid).unlink()

    def stop(self, timeout_s: float, *, force: bool = False) -> bool:
        """Signal it to stop, and wait for its end. False if it still runs after `timeout_s`.

        Args:
            force: end it at once instead of letting it finish its requests.
        """
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if (
                not self.alive
            ):  # checked after the open: from here on the descriptor always refers to this process
                return True
            signal.pidfd_send_signal(process, signal.SIGKILL if force else signal.SIGTERM)
            ended, _, _ = select.select([process], [], [], timeout_s)
            return bool(ended)
        except ProcessLookupError:
            return True
        finally:
            os.close(process)


def new_record(
    host: str, port: int, url: str, run_dir: Path, models: list[str], certfile: str | None = None
) -> ServerRecord:
    """The record of a server that this process starts now."""
    pid = os.getpid()
    return ServerRecord(
        pid=pid,
        process_start=process_start(pid) or 0,
        host=host,
        port=port,
        url=url,
        run_dir=str(run_dir.absolute()),
        started_at=now(),
        version=__version__,
        models=models,
        certfile=str(Path(certfile).absolute()) if certfile else "",
    )


def running_servers() -> list[ServerRecord]:
    """The records of all servers that run, by port. Files of servers that have gone are removed."""
    found = []
    for path in directory().glob("server-*.json"):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ServerRecord)
        except (OSError, msgspec.DecodeError):
            record = None
        if record is not None and record.alive:
            found.append(record)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return sorted(found, key=lambda record: (record.port, record.pid))


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine's start; None if there is none (or only its remains).

    Field 22 of /proc/<pid>/stat, proc(5).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else int(fields[18])


def directory() -> Path:
    """The folder of records, made if missing: LQMF_RUNTIME_DIR, else within XDG_RUNTIME_DIR or the temporary folder.

    Raises:
        UserInputError: it is not ours alone; a record that somebody else wrote could make us end a wrong process.
    """
    own, session = os.environ.get(DIRECTORY_VARIABLE), os.environ.get("XDG_RUNTIME_DIR")
    if own:
        folder = Path(own)
    elif session and os.access(session, os.W_OK):
        folder = Path(session) / "lqmf"
    else:
        folder = Path(tempfile.gettempdir()) / f"lqmf-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    safe = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    if not safe:
        raise UserInputError(
            f"{folder} is not a folder of yours alone",
            hint=f"set {DIRECTORY_VARIABLE} to one that only you can write",
        )
    return folder


def _path(pid: int) -> Path:
    return directory() / f"server-{pid}.json"

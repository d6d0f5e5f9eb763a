"""What the terminal shows of an error, and the exit code that belongs to it: errors are worded for people here only."""

from __future__ import annotations

import errno
import logging
import os
import sys

from ..errors import LqmfError, MissingDependencyError
from ..install import missing_package

log = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def report(error: Exception, *, job: str = "") -> int:
    """Print an error as one line and a hint on stderr; return the exit code that belongs to it."""
    if os.environ.get("LQMF_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    known = _translate(error)
    where = f"{job}: " if job else ""
    if known is None:
        print(f"error: {where}{type(error).__name__}: {error}", file=sys.stderr)
        if log_file := _log_file():
            log.error("unexpected error", exc_info=error)
            print(f"hint: the traceback is in {log_file}", file=sys.stderr)
        else:
            print("hint: set LQMF_DEBUG=1 for the traceback", file=sys.stderr)
        return 1
    print(f"error: {where}{known.message}", file=sys.stderr)
    if known.hint:
        print(f"hint: {known.hint}", file=sys.stderr)
    return known.exit_code


def discard_output() -> None:
    """The reader of what we print has left."""
    from ..output import discard

    discard(sys.stdout)


class TerminalFilter(logging.Filter):
    """Keeps tracebacks out of the terminal: they belong in the run's log file."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record."""
        return record.exc_info is None


def _translate(error: Exception) -> LqmfError | None:
    if isinstance(error, LqmfError):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f": {error.filename}" if error.filename else ""
        return LqmfError(f"{error.strerror}{where}", hint="make room, or name another place with output_dir=")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("lqmf_runner"):
        message, hint = missing_package(error)
        return MissingDependencyError(message, hint=hint)
    from .config_errors import translate

    return translate(error)


def _log_file() -> str | None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            return os.path.relpath(handler.baseFilename)
    return None

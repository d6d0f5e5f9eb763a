"""Runs a program and ends it, with all that it has started, when the process that asked for it is gone.

`python -m lqmf_runner.engine.program FD PROGRAM ARGUMENT...`: FD is the end of a pipe whose other end nobody writes to.
It closes when its owner ends, however that happens. The exit code is the program's.

It is two processes. Ray kills the children of an actor that ends, and their process groups: what ends the program is
the child of such a child, in a session of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import psutil

from . import FILES

_TERM_S, _KILL_S = 10.0, 5.0
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """See the module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then closes the pipe
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    owner, command, files = int(arguments[0]), arguments[1:], os.environ.pop(FILES, "")
    os.set_inheritable(owner, False)
    _adopt_orphans()
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        threading.Thread(target=_end_with_owner, args=(owner,), daemon=True).start()
        code = program.wait()
        _end(_family())
    finally:
        for file in filter(None, files.split(os.pathsep)):
            with contextlib.suppress(OSError):
                os.unlink(file)
    return code if code >= 0 else 128 - code


def _end_with_owner(owner: int) -> None:
    os.read(owner, 1)  # returns when the pipe closes
    _end(_family())


def _adopt_orphans() -> None:
    """Become the parent of processes that the program leaves behind, so that they are found (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _family() -> list[psutil.Process]:
    """The program and all that it has started."""
    return psutil.Process().children(recursive=True)


def _end(processes: list[psutil.Process]) -> None:
    """Ask them to end, then kill those that stay."""
    for seconds, what in ((_TERM_S, psutil.Process.terminate), (_KILL_S, psutil.Process.kill)):
        for process in processes:
            try:
                what(process)
            except psutil.Error:
                continue
        _, processes = psutil.wait_procs(processes, seconds)
        if not processes:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Cores of a machine that a job has to itself: engines take as many threads as the process has cores.

Neither Ray nor Slurm without cgroups keeps a process to the cores that it was given. Two jobs that both use all cores
wait for each other's threads: an inter-token latency of 417 ms was measured in place of 7.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path

from ...errors import UserInputError

_POLL_S = 0.2
_held: list[int] = []  # descriptors of the locks, which the system gives back when the process ends


def keep_to_cores(count: int, *, share: bool, number: int = 0) -> list[int]:
    """Run on this many cores from now on, and wait for them if other jobs have them. The process keeps them.

    Args:
        share: take cores that others may have too; `number` spreads the jobs over them.

    Raises:
        UserInputError: the machine does not have as many.
    """
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        raise UserInputError(
            f"the job is to have {count} cores, and {os.uname().nodename} has {len(cores)}",
            hint="lower hydra.launcher.num_cpus",
        )
    if share:
        taken = [cores[(number * count + at) % len(cores)] for at in range(count)]
    else:
        while len(taken := _claim(cores, count)) < count:
            time.sleep(_POLL_S)
    os.sched_setaffinity(0, taken)
    return taken


def _claim(cores: list[int], count: int) -> list[int]:
    """Lock this many of the cores that nobody has; none if fewer are free."""
    folder = _own_folder()
    taken, locks = list[int](), list[int]()
    for core in cores:
        lock = os.open(folder / str(core), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        taken.append(core)
        locks.append(lock)
        if len(taken) == count:
            _held.extend(locks)
            return taken
    for lock in locks:
        os.close(lock)
    return []


def _own_folder() -> Path:
    """This user's folder of locks. Whoever else had made it could lead the locks to other files, or hold them all.

    Raises:
        UserInputError: it is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"lqmf-cores-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserInputError(
            f"{folder} on {os.uname().nodename} is no folder of this user, who keeps locks there",
            hint="remove it, or set TMPDIR to another folder",
        )
    return folder

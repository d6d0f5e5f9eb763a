"""One job of a sweep on another machine: what it is sent, and running it there.

It runs in a process of its own and not in that of Ray or submitit: so it has its own cores and environment, its output
can be distinguished, and an interrupt ends it like Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ... import __version__
from ...errors import INTERRUPTED
from ...runs.folder import MARK_NAME

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_END_S = 20.0


@dataclass(frozen=True)
class Job:
    """A job, packed.

    Attributes:
        name: "job 1 (model=b)", as errors have it.
        composed: the pickled configuration and state of Hydra.
        typed: the command line that does this job alone, as words.
        argv: the command line of the sweep.
        sweep_dir, subdir: the sweep's folder, absolute, and the job's in it.
        mark: what the sweep's folder holds, by which a machine sees whether it has the same folder.
        folder: the working directory of the sweep.
        num_cpus: cores that it has, and threads that it computes with.
        share_cores: other jobs may have them too.
    """

    number: int
    name: str
    composed: bytes
    typed: tuple[str, ...]
    argv: tuple[str, ...]
    sweep_dir: Path
    subdir: str
    mark: str
    folder: Path
    version: str = __version__
    num_cpus: int = 1
    share_cores: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        exit_code: as of the program: 0 done, 1 failed, 2 refused.
        said: its errors and hints, a line each.
        host: where it ran.
        files: its folder as a tar file, where the sweep's folder is not on that machine.
    """

    exit_code: int
    said: tuple[str, ...] = ()
    host: str = ""
    files: bytes | None = None


def run(job: Job) -> Outcome:
    """Run the job on this machine, to its end. An interrupt ends it, and keeps what was done."""
    host = os.uname().nodename
    if job.version != __version__:
        said = f"error: {job.name}: {host} has lqmf-runner {__version__}, the sweep {job.version}"
        return Outcome(1, (said, "hint: install the same version on all nodes"), host)
    with _sweep_folder(job) as (sweep_dir, shared):
        here = replace(job, sweep_dir=sweep_dir)
        exit_code, said = _run_packed(here)
        files = None if shared else _pack(sweep_dir / job.subdir)
    errors = tuple(line for line in said.splitlines() if line.startswith(("error: ", "hint: ")))
    return Outcome(exit_code, errors, host, files)


def unpack(files: bytes, folder: Path) -> None:
    """Put the files of a job that ran without the sweep's folder into its place."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(folder, filter="data")


@contextlib.contextmanager
def _sweep_folder(job: Job) -> Iterator[tuple[Path, bool]]:
    """The sweep's folder, and whether it is the one that the launcher sees; else a temporary one of the same name."""
    if _has_mark(job):
        yield job.sweep_dir, True
        return
    with tempfile.TemporaryDirectory(prefix="lqmf-job-") as temporary:
        folder = Path(temporary, *job.sweep_dir.parts[-2:])
        folder.mkdir(parents=True)
        (folder / MARK_NAME).write_text(job.mark, "utf-8")
        yield folder, False


def _has_mark(job: Job) -> bool:
    try:
        return (job.sweep_dir / MARK_NAME).read_text("utf-8") == job.mark
    except OSError:
        return False


def _run_packed(job: Job) -> tuple[int, str]:
    """The exit code, and what was written to stderr."""
    environment = {key: value for key, value in os.environ.items() if key not in _THREAD_VARIABLES}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.packed"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment,
            cwd=job.folder if job.folder.is_dir() else None,
        )  # fmt: skip
        try:
            process.communicate(pickle.dumps(job))
            exit_code = process.returncode
        except BaseException:  # Ray and Slurm interrupt in their own ways
            _end(process)
            raise
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    if exit_code not in (0, 1, 2, INTERRUPTED):
        said += f"\nerror: {job.name}: its process ended with {_ending(exit_code)}"
    return exit_code, said


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ending(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"


def _pack(folder: Path) -> bytes | None:
    if not folder.is_dir():
        return None
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.add(folder, arcname=".")
    return target.getvalue()

"""Runs one `Job` in a child process and passes on what it reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import msgspec

from ...errors import QuantizationError, error_types
from .base import Job, Report

PACKAGE = __package__ or "lqmf_runner.models.quantize"
LOG_LINES = 60


def run_job(job: Job, report: Report) -> dict[str, Any]:
    """Do the job in a fresh process; the child dies with this one.

    Returns:
        The fields of the child's last event.

    Raises:
        LqmfError: whatever the child raised, or QuantizationError when it died.
    """
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", PACKAGE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(Path(job.scratch)),
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(msgspec.json.encode(job) + b"\n")
            child.stdin.flush()
            result = _follow(child.stdout, job, report)
            code = child.wait()
        except BrokenPipeError:
            result, code = None, child.wait()
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
        if result is None:
            _print_log(log)
            raise QuantizationError(f"the process that ran {job.method} ended unexpectedly, {_cause(code)}")
        if result["event"] == "error":
            _print_log(log)
    if result["event"] == "full":
        raise QuantizationError(
            "the disk is full; nothing was kept",
            hint="make room, or set models_dir to a folder on another disk",
        )
    if result["event"] == "error":
        raise error_types()[result["type"]](result["message"], hint=result.get("hint", ""))
    return result


def _follow(stream: IO[bytes], job: Job, report: Report) -> dict[str, Any] | None:
    for line in stream:
        event: dict[str, Any] = msgspec.json.decode(line)
        if event["event"] != "progress":
            return event
        report(event["stage"], event["done"], event["total"])
    return None


def _environment(scratch: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(scratch),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed (most often by the system, out of memory)"
    if code == -signal.SIGBUS:
        return "by a bus error (a disk that is full, or a file that shrank)"
    if code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _print_log(log: IO[bytes]) -> None:
    if os.environ.get("LQMF_DEBUG") == "1":
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
        print("\n".join(lines[-LOG_LINES:]), file=sys.stderr)

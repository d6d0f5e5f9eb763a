"""The child process of a quantization: reads a `Job` from stdin, reports JSON lines on stdout.

It lives no longer than its parent: when stdin closes, it ends at once.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

from ...errors import LqmfError, MissingDependencyError
from ...install import install_line
from .base import Job
from .methods import get_method

REFERENCE = "reference.npy"
SOURCE = "source.npy"


def main() -> int:
    # Libraries print to stdout; the protocol keeps the real one for itself.
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(job.scratch)  # some libraries write logs into the current folder
    _quieten()

    def send(event: dict[str, Any]) -> None:
        _send(channel, event)

    def report(stage: str, done: int, total: int) -> None:
        send({"event": "progress", "stage": stage, "done": done, "total": total})

    try:
        import torch

        torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        run = {"make": _make, "prove": _prove}[job.task]
        send({"event": "done", **run(job, report)})
        return 0
    except LqmfError as error:
        send({"event": "error", "type": type(error).__name__, "message": error.message, "hint": error.hint})
    except ImportError as error:
        missing = MissingDependencyError(f"method {job.method} needs a package that does not import: {error}")
        hint = install_line("all")
        send({"event": "error", "type": type(missing).__name__, "message": missing.message, "hint": hint})
    except Exception as error:
        if _is_full_disk(error):
            send({"event": "full", "message": str(error)})
        else:
            import traceback

            traceback.print_exc()
            send(
                {"event": "error", "type": "QuantizationError", "message": f"{type(error).__name__}: {error}"}
            )
    return 1


def _make(job: Job, report: Any) -> dict[str, Any]:
    import numpy as np

    reference = get_method(job.method).make(job, report)
    np.save(Path(job.scratch) / REFERENCE, reference)
    return {}


def _prove(job: Job, report: Any) -> dict[str, Any]:
    import numpy as np

    from .proof import compare

    report("reloading and comparing", 0, 0)
    method, folder, scratch = get_method(job.method), Path(job.out), Path(job.scratch)
    reference = np.load(scratch / REFERENCE)
    source = np.load(scratch / SOURCE) if (scratch / SOURCE).exists() else None
    return {"proof": compare(reference, method.logits(folder, job.parameters), source)}


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a disk or a quota that is full; some libraries only say so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        text = str(error)
        if "No space left on device" in text or "os error 28" in text or "os error 27" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _quieten() -> None:
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def _end_with_parent() -> NoReturn:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _send(channel: BinaryIO, event: dict[str, Any]) -> None:
    channel.write(msgspec.json.encode(event) + b"\n")


if __name__ == "__main__":
    # Not sys.exit: thread pools that libraries leave behind must not keep a finished child alive.
    code = main()
    sys.stderr.flush()
    os._exit(code)

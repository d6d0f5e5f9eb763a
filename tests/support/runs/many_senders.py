"""Sends runs to one store from many processes at once: `python -m tests.support.runs.many_senders URI FOLDER...`.

Each folder is sent by a process in that folder. MLflow is imported before the processes part, so that they meet at the
store and not one after the other.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import mlflow  # noqa: F401
import sqlalchemy  # noqa: F401

from lqmf_runner.config import TrackingConfig
from lqmf_runner.tracking.mlflow_store import send_folder


def main() -> int:
    """Returns how many failed; each says why on stderr."""
    uri, *folders = sys.argv[1:]
    reader, writer = os.pipe()
    children = []
    for folder in folders:
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # the end of the pipe is the start
            os._exit(_send(Path(folder), uri))
        children.append(child)
    os.close(reader)
    os.close(writer)
    return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children)


def _send(folder: Path, uri: str) -> int:
    os.chdir(folder.parents[1])
    try:
        send_folder(folder, TrackingConfig(uri=uri))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Sends what jobs leave to MLflow, from the machine of the sweep and beside the jobs that still run.

So the store may be a file of this machine, its password does not leave it, and the jobs do not wait for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ...config import TrackingConfig
from ...errors import LqmfError
from ...results.files import RESULTS
from ...tracking import MlflowTracker, send_later_command


class Sender:
    """A context; its end waits until all folders were sent, or says how to send them later.

    Args:
        sweep_dir: the folder of the sweep, for the command that sends its runs later.
        tell: says a line to the user.
    """

    def __init__(self, tracking: TrackingConfig, sweep_dir: Path, tell: Callable[[str], None]) -> None:
        self._tracking = tracking
        self._sweep_dir = sweep_dir
        self._tell = tell
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._refusal: LqmfError | None = None

    def __enter__(self) -> Sender:
        if self._tracking.enabled:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._tracking.enabled:
            return
        self._waiting.put(None)
        self._thread.join()
        if self._refusal is not None:
            later = send_later_command(self._sweep_dir, self._tracking)
            self._tell(
                f"not all jobs were sent to MLflow ({self._refusal.message}); send them later: {later}"
            )

    def add(self, folder: Path) -> None:
        """Send a job's folder as soon as possible. A job that left no results has nothing to send."""
        if self._tracking.enabled and (folder / RESULTS).exists():
            self._waiting.put(folder)

    def _run(self) -> None:
        ended = False
        while not ended:
            folders = [self._waiting.get()]
            while not self._waiting.empty():
                folders.append(self._waiting.get())
            ended = None in folders
            try:  # those that ended meanwhile go together, because each process spends seconds on its start
                MlflowTracker(self._tracking).send_all([folder for folder in folders if folder is not None])
            except LqmfError as error:
                self._refusal = error

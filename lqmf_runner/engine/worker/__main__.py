"""The worker process: one loaded model, a scheduler, and a socket to the front.

The main thread runs the model. The intake thread reads commands and prepares requests (template, tokens), so that the
model does not wait for this. When the socket closes, the front has ended, and the process exits at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

import msgspec

from ...cgroup import usable_cores
from ...errors import LqmfError
from ...formats import find_format
from ...types import ModelSpec
from .. import protocol
from ..protocol import Cancel, GetStats, Load, Loaded, Loading, Reply, ResetPrefixCache, ShrinkPromptCache
from .arrivals import Arrivals
from .embedding import EmbeddingQueue
from .intake import Connection, Intake, Received
from .request import Generating, Scoring
from .runners.base import ModelRunner
from .runners.lean_imports import prepare_torch
from .runners.step_watch import StepWatch
from .scheduler import Scheduler, SchedulerLimits
from .speculation.loading import load_models

_THREAD_STACK = 16 << 20  # a multiple of what `constraint_check` allows


def run_requests(scheduler: Scheduler, intake: Intake, connection: Connection, watch: StepWatch) -> NoReturn:
    """Run the model while there are requests; wait for one when there are none."""
    inbox, arrivals = intake.inbox, Arrivals()
    while True:
        idle = not scheduler.n_requests
        while not (scheduler.n_requests and inbox.empty()):
            _handle(inbox.get(), scheduler, connection)
        if idle:
            arrivals.begin()
            with contextlib.suppress(queue.Empty):
                while wait := arrivals.patience(scheduler.n_requests):
                    _handle(inbox.get(timeout=wait), scheduler, connection)
        arrivals.note(scheduler.n_requests)
        with watch:
            scheduler.step()


def _handle(received: Received, scheduler: Scheduler, connection: Connection) -> None:
    match received:
        case Generating() | Scoring() as request:
            try:
                scheduler.add(request)
            except LqmfError as error:
                connection.send([protocol.failure(request.id, error)])
        case Cancel(id=request_id):
            scheduler.cancel(request_id)
        case GetStats(id=request_id):
            connection.send([Reply(request_id, scheduler.stats())])
        case ResetPrefixCache(id=request_id):
            scheduler.reset_prefix_cache()
            connection.send([Reply(request_id, True)])
        case ShrinkPromptCache(n_bytes=n_bytes):
            scheduler.shrink_prompt_cache(n_bytes)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the front decides.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # If memory runs out, the model goes, not the server.
    threading.stack_size(_THREAD_STACK)
    connection = Connection(socket.socket(fileno=int(sys.argv[1])))
    (load,) = connection.receive()
    assert isinstance(load, Load)
    spec = load.spec
    if cores := spec.options.get("cores"):  # before the threads that compute, which inherit it
        os.sched_setaffinity(0, cores)
    limits = _limits(spec)
    intake = Intake(connection)
    began = time.perf_counter()
    try:
        format = find_format(spec.format)
        # Code that comes with a model may want any package.
        if format is not None and "torch" in format.packages and not spec.options.get("trust_remote_code"):
            prepare_torch()
        loaded = load_models(spec, limits.n_batch, lambda share: connection.send([Loading(share)]))
    except Exception as error:
        connection.send([protocol.failure(None, error)])
        sys.exit(1)
    runner = loaded.runner
    intake.attach(runner, spec.options.get("n_threads") or usable_cores())
    info = msgspec.structs.replace(
        loaded.info,
        load_time_s=time.perf_counter() - began,
        tools=intake.knows_tools,
        thinks=intake.knows_thoughts,
    )
    _return_free_memory()
    gc.freeze()  # what was loaded stays: no collection has to look at it in the middle of an answer
    connection.send([Loaded(info)])
    watch = StepWatch(spec.options.get("step_timeout_s"), connection.end_hanging)
    emit = watch.outside(connection.send)
    if isinstance(runner, ModelRunner):
        scheduler = Scheduler(runner, limits, emit, draft_model=loaded.draft_model)
        run_requests(scheduler, intake, connection, watch)
    EmbeddingQueue(runner, limits.max_queue, emit, watch).run(intake.inbox)


def _limits(spec: ModelSpec) -> SchedulerLimits:
    """The settings of the scheduler among those of the backend."""
    settings = {"sharing": spec.placement.most_replicas, **spec.options}
    names = SchedulerLimits.__dataclass_fields__
    return SchedulerLimits(**{name: settings[name] for name in names if name in settings})


def _return_free_memory() -> None:
    """Give back to the system what the allocator holds free after a load; only glibc has a call for it."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()

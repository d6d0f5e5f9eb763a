"""The benchmark of one model: load it, run its loads, compare it with the reference, run the tasks, close it.

Each figure goes to the recorder as soon as it is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...engine import load_engine
from ...engine.client import EngineClient
from ...engine.on_demand import LoadEngine
from ...errors import InvalidRequestError, RemoteEngineError
from ...evaluation.tasks.run import Tasks
from ...formats import is_remote
from ...load.plan import BenchmarkPlan
from ...results.logs.request_log import RequestLog
from ...results.quality import Quality
from ...types import ModelSpec
from ..other_work import OtherWork
from ..recorder import ModelRecorder
from .loads import Measured, ModelLoads
from .observer import Observer

if TYPE_CHECKING:
    from ...evaluation.fidelity.comparison import Reference


async def benchmark_model(
    spec: ModelSpec,
    plan: BenchmarkPlan,
    record: ModelRecorder,
    *,
    observer: Observer,
    log: RequestLog,
    measured: Measured | None = None,
    memory_bandwidth_gb_s: float | None = None,
    reference: Reference | None = None,
    load: LoadEngine = load_engine,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Benchmark one model. The engine is closed in any case.

    Fidelity and tasks come last, so the memory figures do not include theirs. For an endpoint, only decisions are
    compared with the reference.

    Args:
        record: gets each figure as soon as it is measured, so it is complete up to an error or interrupt.
        log: gets the requests.
        measured: the model's measurements in earlier turns of an interleaved plan. A turn is one repeat of each load;
            fidelity, tasks and the ramp belong to the first. This turn's measurements are added.
        memory_bandwidth_gb_s: of the machine, if known.
        reference: the model is compared with it, if it is given.

    Raises:
        LqmfError: the model could not be loaded, its engine was lost, or no request succeeded.
        asyncio.CancelledError: interrupted. The running load is recorded as partial if a request has ended.
    """
    measured = Measured() if measured is None else measured
    first = not measured.turns
    if not first:
        reference = None
    tasks = None
    if first and plan.mode.tasks:  # before the model is loaded, so that a wrong task costs no time
        tasks = await asyncio.to_thread(Tasks, plan.mode.tasks, plan.mode.tasks_limit)
    started = clock()
    client = await load(spec, lambda share: observer.loading(record.name, share))
    try:
        if first:
            record.loaded(client.info, spec, clock() - started)
        observer.loaded(record.result)
        if reference is not None:
            await _check_reference(reference, client, record)
        loads = ModelLoads(client, plan, record, measured, observer, log, memory_bandwidth_gb_s, clock)
        others = OtherWork()
        await loads.run_all()
        if not is_remote(client.info.format):  # the work of an endpoint may be on this machine
            record.other_work(others.cores())
        if reference is not None:
            await _compare(reference, client, record, observer)
        if tasks is not None:
            record.quality(Quality(tasks=await _run_tasks(tasks, client, record.name, observer)))
        measured.turns += 1
    finally:
        await client.close()


async def _check_reference(reference: Reference, client: EngineClient, record: ModelRecorder) -> None:
    """Refuse a model that cannot be compared, before its loads take time. Of an endpoint, note what is not measured."""
    if not is_remote(client.info.format):
        await reference.check(client)
        return
    only = "only decisions are" if reference.decisions else "nothing is"
    record.note(f"of fidelity {only} measured: an endpoint does not give full distributions")


async def _compare(
    reference: Reference, client: EngineClient, record: ModelRecorder, observer: Observer
) -> None:
    if not is_remote(client.info.format):
        record.fidelity(await reference.compare(client, record.name, observer))
    if reference.decisions is None:
        return
    try:
        found = await reference.decisions.compare(client, record.name, observer)
    except (InvalidRequestError, RemoteEngineError) as error:
        record.note(f"decisions are not measured: {error.message}")
        return
    record.quality(Quality(decisions=found))


async def _run_tasks(
    tasks: Tasks, client: EngineClient, name: str, observer: Observer
) -> dict[str, dict[str, float]]:
    """The metrics by task. Each kind of request has a bar of its own."""
    under_way: list[tuple[str, int]] = []

    def end_kind() -> None:
        if under_way:
            kind, requests = under_way.pop()
            observer.work_ended(name, kind, f"{requests:,} requests")

    def begin_kind(kind: str, requests: int) -> None:
        end_kind()
        under_way.append((f"tasks, {kind}", requests))
        observer.work_started(name, f"tasks, {kind}", requests)

    found = await tasks.measure(client, on_batch=begin_kind, on_answer=observer.work_advanced)
    end_kind()
    return found

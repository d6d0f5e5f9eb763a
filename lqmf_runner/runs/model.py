"""The benchmark of one model: load it, warm up, run every load, close it; what was measured is kept at any moment."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..engine import load_engine
from ..engine.client import EngineClient
from ..engine.on_demand import LoadEngine, WorkObserver
from ..errors import EngineError, InvalidRequestError, RemoteEngineError
from ..evaluation.grading.similarity import mean_similarity
from ..evaluation.heuristic import heuristic_se, mean_heuristic, score_answer
from ..evaluation.tasks.run import Tasks
from ..formats import is_remote
from ..load.base import LoadShape
from ..load.closed_loop import ClosedLoop
from ..load.conversations import Conversation, cycle_conversations
from ..load.metrics import (
    add_work,
    bandwidth_utilisation,
    engine_rates,
    load_result,
)
from ..load.plan import BenchmarkPlan, PlannedLoad
from ..load.repeats import headline_estimates
from ..load.run import LoadLog, run_load
from ..results.quality import Quality
from ..results.request_log import RequestLog
from ..results.schema import LoadResult, ModelResult, RequestRecord
from ..types import EngineStats, ModelInfo, ModelSpec

if TYPE_CHECKING:
    from ..evaluation.fidelity.comparison import Reference


class Observer(WorkObserver, Protocol):
    """Is told how a benchmark goes on. Called from the event loop while requests run, so it must be quick."""

    def loaded(self, model: ModelResult) -> None:
        """The model answers."""

    def load_started(self, model: str, load: str, requests: int | None) -> None:
        """A load begins, of so many requests; None where a duration ends it."""

    def request_ended(self, record: RequestRecord) -> None:
        """A request of the running load ended."""

    def load_ended(self, model: str, load: str, result: LoadResult) -> None:
        """The load is over, or was cut short."""


@dataclass
class Turns:
    """What a model has measured so far, if its repeats are spread over several turns, each with a load of its own.

    Attributes:
        done: turns that are over.
        logs, work: by load, what each repeat measured, and the engine's work in all of them.
        records: all requests.
    """

    done: int = 0
    logs: dict[str, list[LoadLog]] = field(default_factory=dict)
    work: dict[str, EngineStats] = field(default_factory=dict)
    records: list[RequestRecord] = field(default_factory=list)


async def benchmark_model(
    spec: ModelSpec,
    plan: BenchmarkPlan,
    result: ModelResult,
    *,
    observer: Observer,
    log: RequestLog,
    memory_bandwidth_gb_s: float | None = None,
    on_progress: Callable[[], None] = lambda: None,
    reference: Reference | None = None,
    turns: Turns | None = None,
    load: LoadEngine = load_engine,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Benchmark one model and fill in `result` as it goes, so that it holds what was measured however this ends.

    `on_progress` is called after each load, between measurements. The engine is closed in any case. Fidelity to the
    `reference` and tasks come last, so that what they take is not in the memory figures; of an endpoint, decisions are
    the only fidelity.
    Of a plan that is interleaved this is one turn: one repeat of each load. Fidelity, tasks and the ramp belong to the
    first.

    Raises:
        LqmfError: the model could not be loaded, its engine was lost, or no request succeeded.
        asyncio.CancelledError: interrupted; the load under way is in `result`, marked partial, if a request ended.
    """
    turns = Turns() if turns is None else turns
    tasks = None
    if turns.done:
        reference = None
    elif plan.mode.tasks:  # before the model: what is wrong with a task is known then
        tasks = await asyncio.to_thread(Tasks, plan.mode.tasks, plan.mode.tasks_limit)
    started = clock()
    client = await load(spec, lambda share: observer.loading(result.name, share))
    try:
        if not turns.done:
            result.load_time_s = clock() - started
            describe(result, client.info, spec)
        observer.loaded(result)
        endpoint = is_remote(client.info.format)
        if reference is not None and endpoint:
            measured = "only decisions are" if reference.decisions else "nothing is"
            result.notes.append(
                f"of fidelity {measured} measured: an endpoint does not give full distributions"
            )
        elif reference is not None:
            await reference.check(client)
        runner = _ModelRun(
            client, plan, result, observer, log, memory_bandwidth_gb_s, on_progress, turns, clock
        )
        await runner.run_all()
        if reference is not None:
            if not endpoint:
                _add(result, await reference.compare(client, result.name, observer))
            await _measure_decisions(reference, client, result, observer)
            on_progress()
        if tasks is not None:
            await _measure_tasks(tasks, client, result, observer)
            on_progress()
        turns.done += 1
    finally:
        await client.close()


@dataclass
class _ModelRun:
    """The loads of one loaded model."""

    client: EngineClient
    plan: BenchmarkPlan
    result: ModelResult
    observer: Observer
    log: RequestLog
    memory_bandwidth_gb_s: float | None
    on_progress: Callable[[], None]
    turns: Turns
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._conversations: list[Conversation] = []

    async def run_all(self) -> None:
        """Warm up, run the loads, then the ramp."""
        self._conversations = await self.plan.conversations(self.client)
        await self.warm_up()
        turn = self.turns.done
        numbers = [turn] if self.plan.mode.interleave else range(self.plan.mode.repeats)
        for repeats in zip(*(self.plan.loads(number) for number in numbers), strict=True):
            await self.run(repeats)
        if not turn and (ramp := self.plan.new_ramp()):
            for step in ramp.steps():
                self.turns.logs.pop(step.key, None)  # of a step that was too short and is done again
                self.turns.work.pop(step.key, None)
                records = await self.run([PlannedLoad(step, None)])
                ramp.judge(step, records, self.plan.objectives)
                self.result.ramp = ramp.result
            self.on_progress()
        self._require_an_answer()

    def _require_an_answer(self) -> None:
        """A model of which every request failed, or that was sent none, has not been measured."""
        records = self.turns.records
        if not records:
            raise EngineError(
                "no request arrived before the loads were over",
                hint="give mode.duration_s more time, or mode.rate a higher rate",
            )
        if all(record.error is not None for record in records):
            raise EngineError(
                f"none of {len(records)} requests succeeded; the first: {records[0].error}",
                hint="requests.jsonl has them all",
            )

    async def warm_up(self) -> None:
        """Requests that are not counted: they touch all weights and fill the caches of the libraries below."""
        if not self.plan.mode.warmup:
            return
        users = min(self.plan.mode.warmup, max(self.plan.mode.concurrency, default=1))
        requests = cycle_conversations(self._conversations, self.plan.mode.warmup)
        await run_load(self.client, ClosedLoop(users), requests, self.plan.sampling, clock=self.clock)

    async def run(self, repeats: Sequence[PlannedLoad]) -> list[RequestRecord]:
        """One load, as often as it is to be repeated. Cut short, it is kept as partial if any request ended."""
        first = repeats[0]
        total = None if first.requests is None else first.requests * len(repeats)
        self.observer.load_started(self.result.name, first.shape.key, total)
        before = after = await self.client.stats()
        logs = self.turns.logs.setdefault(first.shape.key, [])
        whole = False
        try:
            for load in repeats:
                # Else the last prompts would still be in the cache, and TTFT would be that of a replay.
                await self.client.reset_prefix_cache()
                logs.append(LoadLog())
                await run_load(
                    self.client, load.shape, cycle_conversations(self._conversations, load.requests),
                    self.plan.sampling, model=self.result.name, repeat=len(logs) - 1, log=logs[-1],
                    on_record=self._on_record, clock=self.clock,
                )  # fmt: skip
            after = await self.client.stats()
            self.result.memory = await self.client.memory()
            whole = True
        finally:
            if any(log.records for log in logs):
                self._keep(first.shape, logs, before, after, partial=not whole)
            elif whole:
                self.result.notes.append(f"{first.shape.key}: no request arrived before it was over")
        self.on_progress()
        return [record for log in logs for record in log.records]

    def _on_record(self, record: RequestRecord, conversation: Conversation) -> None:
        if self.plan.mode.heuristic and not conversation.plain and record.error is None:
            record.heuristic = score_answer(
                record.prompt, record.text, cut_off=record.finish_reason == "length"
            )
        self.turns.records.append(record)
        self.log.write(record)
        self.observer.request_ended(record)

    def _keep(
        self,
        shape: LoadShape,
        logs: Sequence[LoadLog],
        before: EngineStats,
        after: EngineStats,
        *,
        partial: bool,
    ) -> None:
        work = add_work(self.turns.work.get(shape.key, EngineStats()), before, after)
        self.turns.work[shape.key] = work
        rates = engine_rates(EngineStats(), work)
        share = bandwidth_utilisation(self.client.info, rates, self.memory_bandwidth_gb_s)
        measure = functools.partial(load_result, shape.shape, objectives=self.plan.objectives)
        pooled = measure(
            [record for log in logs for record in log.records], sum(log.duration_s for log in logs),
            rates=rates, bandwidth_share=share, partial=partial,
        )  # fmt: skip
        ended = logs[:-1] if partial else logs
        estimates = headline_estimates([measure(log.records, log.duration_s) for log in ended])
        load = msgspec.structs.replace(pooled, repeats=estimates)
        self.result.loads = list(
            ({known.shape: known for known in self.result.loads} | {load.shape: load}).values()
        )
        answers = [((r.prompt_id, r.turn), r.text) for r in self.turns.records if r.error is None]
        self.result.quality = msgspec.structs.replace(
            self.result.quality,
            heuristic=mean_heuristic(self.turns.records),
            heuristic_se=heuristic_se(self.turns.records),
            similarity=mean_similarity(answers, self.plan.references),
        )
        self.observer.load_ended(self.result.name, shape.key, load)


async def _measure_decisions(
    reference: Reference, client: EngineClient, result: ModelResult, observer: Observer
) -> None:
    if reference.decisions is None:
        return
    try:
        found = await reference.decisions.compare(client, result.name, observer)
    except (InvalidRequestError, RemoteEngineError) as error:
        result.notes.append(f"decisions are not measured: {error.message}")
        return
    _add(result, Quality(decisions=found))


def _add(result: ModelResult, found: Quality) -> None:
    known = {name: value for name, value in msgspec.structs.asdict(found).items() if value is not None}
    result.quality = msgspec.structs.replace(result.quality, **known)


async def _measure_tasks(tasks: Tasks, client: EngineClient, result: ModelResult, observer: Observer) -> None:
    under_way: list[tuple[str, int]] = []

    def end_kind() -> None:
        if under_way:
            kind, requests = under_way.pop()
            observer.work_ended(result.name, kind, f"{requests:,} requests")

    def begin_kind(kind: str, requests: int) -> None:
        end_kind()
        under_way.append((f"tasks, {kind}", requests))
        observer.work_started(result.name, f"tasks, {kind}", requests)

    found = await tasks.measure(client, on_batch=begin_kind, on_answer=observer.work_advanced)
    end_kind()
    result.quality = msgspec.structs.replace(result.quality, tasks=found)


def describe(result: ModelResult, info: ModelInfo, spec: ModelSpec) -> None:
    """Copy what is known of a loaded model. An endpoint knows little of its model: zeros become null."""
    result.format, result.method, result.device = info.format, info.method or None, info.device or None
    result.bits, result.bits_per_weight = info.bits or None, info.bits_per_weight or None
    result.parameters, result.size_mb = info.parameters or None, info.size_mb or None
    result.version = info.version or spec.version or None
    result.notes = list(info.notes)
    result.loads, result.quality = [], Quality()

"""The loads of one model: warm up, run each load with its repeats, then the ramp. Each is recorded when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...engine.client import EngineClient
from ...errors import EngineError
from ...evaluation.grading.similarity import mean_similarity
from ...evaluation.heuristic import heuristic_se, mean_heuristic, score_answer
from ...load.base import LoadShape
from ...load.closed_loop import ClosedLoop
from ...load.conversations import Conversation, cycle_conversations
from ...load.metrics import add_work, bandwidth_utilisation, engine_rates
from ...load.plan import BenchmarkPlan, PlannedLoad
from ...load.repeats import pooled_result
from ...load.run import LoadLog, run_load
from ...results.logs.request_log import RequestLog
from ...results.quality import Quality
from ...results.schema import RequestRecord
from ...types import EngineStats
from ..recorder import ModelRecorder
from .observer import Observer


@dataclass
class Measured:
    """The raw measurements of a model's loads. In an interleaved run they come from several turns.

    Attributes:
        turns: how many turns are over.
        records: all requests.
        logs: of each repeat of a load, by the load's key.
        work: of the engine in all repeats of a load, by the load's key.
    """

    turns: int = 0
    records: list[RequestRecord] = field(default_factory=list)
    logs: dict[str, list[LoadLog]] = field(default_factory=dict)
    work: dict[str, EngineStats] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Drop the repeats of a load that is run again."""
        self.logs.pop(key, None)
        self.work.pop(key, None)

    def quality(self, plan: BenchmarkPlan) -> Quality:
        """Heuristic score and similarity of all answers so far."""
        answers = [((r.prompt_id, r.turn), r.text) for r in self.records if r.error is None]
        return Quality(
            heuristic=mean_heuristic(self.records),
            heuristic_se=heuristic_se(self.records),
            similarity=mean_similarity(answers, plan.references),
        )

    def require_an_answer(self) -> None:
        """Refuse a model for which every request failed, or none was sent: it was not measured.

        Raises:
            EngineError: it is one.
        """
        if not self.records:
            raise EngineError(
                "no request arrived before the loads were over",
                hint="give mode.duration_s more time, or mode.rate a higher rate",
            )
        if all(record.error is not None for record in self.records):
            raise EngineError(
                f"none of {len(self.records)} requests succeeded; the first: {self.records[0].error}",
                hint="requests.jsonl has them all",
            )


@dataclass
class ModelLoads:
    """Runs the loads of a loaded model. A load that is cut short is recorded as partial if any request ended."""

    client: EngineClient
    plan: BenchmarkPlan
    record: ModelRecorder
    measured: Measured
    observer: Observer
    log: RequestLog
    memory_bandwidth_gb_s: float | None
    clock: Callable[[], float]
    conversations: list[Conversation] = field(default_factory=list)

    async def run_all(self) -> None:
        """Warm up, run the loads, then the ramp. Of an interleaved plan: one repeat of each load, the ramp once.

        Raises:
            LqmfError: the engine was lost, or no request succeeded.
        """
        self.conversations = await self.plan.conversations(self.client)
        await self._warm_up()
        turn = self.measured.turns
        numbers = [turn] if self.plan.mode.interleave else range(self.plan.mode.repeats)
        for repeats in zip(*(self.plan.loads(number) for number in numbers), strict=True):
            await self._run(repeats)
        if not turn:
            await self._run_ramp()
        self.measured.require_an_answer()

    async def _run_ramp(self) -> None:
        ramp = self.plan.new_ramp()
        if ramp is None:
            return
        for step in ramp.steps():
            self.measured.forget(step.key)  # of a step that was too short and is repeated
            records = await self._run([PlannedLoad(step, None)])
            ramp.judge(step, records, self.plan.objectives)
            self.record.ramp(ramp.result)

    async def _warm_up(self) -> None:
        """Requests that are not counted: they touch all weights and fill the caches of the libraries below."""
        warmup = self.plan.mode.warmup
        if not warmup:
            return
        users = min(warmup, max(self.plan.mode.concurrency, default=1))
        requests = cycle_conversations(self.conversations, warmup)
        await run_load(self.client, ClosedLoop(users), requests, self.plan.sampling, clock=self.clock)

    async def _run(self, repeats: Sequence[PlannedLoad]) -> list[RequestRecord]:
        """One load with its repeats. Returns its requests, those of earlier turns included."""
        first, name = repeats[0], self.record.name
        total = None if first.requests is None else first.requests * len(repeats)
        self.observer.load_started(name, first.shape.key, total)
        before = after = await self.client.stats()
        logs = self.measured.logs.setdefault(first.shape.key, [])
        whole = False
        try:
            for load in repeats:
                # Otherwise the last prompts would still be in the cache, and TTFT would be that of a repetition.
                await self.client.reset_prefix_cache()
                logs.append(LoadLog())
                await run_load(
                    self.client, load.shape, cycle_conversations(self.conversations, load.requests),
                    self.plan.sampling, model=name, repeat=len(logs) - 1, log=logs[-1],
                    on_record=self._on_record, clock=self.clock,
                )  # fmt: skip
            after = await self.client.stats()
            self.record.memory(await self.client.memory())
            whole = True
        finally:
            if any(log.records for log in logs):
                self._record(first.shape, logs, before, after, partial=not whole)
            elif whole:
                self.record.note(f"{first.shape.key}: no request arrived before it was over")
        return [record for log in logs for record in log.records]

    def _on_record(self, record: RequestRecord, conversation: Conversation) -> None:
        if self.plan.mode.heuristic and not conversation.plain and record.error is None:
            record.heuristic = score_answer(
                record.prompt, record.text, cut_off=record.finish_reason == "length"
            )
        self.measured.records.append(record)
        self.log.write(record)
        self.observer.request_ended(record)

    def _record(
        self,
        shape: LoadShape,
        logs: Sequence[LoadLog],
        before: EngineStats,
        after: EngineStats,
        *,
        partial: bool,
    ) -> None:
        work = add_work(self.measured.work.get(shape.key, EngineStats()), before, after)
        self.measured.work[shape.key] = work
        rates = engine_rates(EngineStats(), work)
        result = pooled_result(
            shape.shape,
            [(log.records, log.duration_s) for log in logs],
            rates=rates,
            bandwidth_share=bandwidth_utilisation(self.client.info, rates, self.memory_bandwidth_gb_s),
            objectives=self.plan.objectives,
            partial=partial,
        )
        self.record.load(result, self.measured.quality(self.plan))
        self.observer.load_ended(self.record.name, shape.key, result)

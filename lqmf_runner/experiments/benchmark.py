"""The benchmark of one model: load it, warm up, run every load, close it; what was measured is kept at any moment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..config import BenchmarkMode, PromptsConfig, SamplingConfig
from ..engine import load_engine
from ..engine.client import EngineClient
from ..errors import UserInputError
from ..quality.heuristic import score_answer
from ..types import EngineStats, ModelInfo, ModelSpec, SamplingParams
from .load import ClosedLoop, Conversation, LoadLog, LoadShape, check_prompts, plan_conversations, run_load
from .metrics import Objectives, bandwidth_utilisation, engine_rates, load_result, mean_heuristic
from .request_log import RequestLog
from .results import LoadResult, ModelResult, Quality, RequestRecord

if TYPE_CHECKING:
    from .fidelity import Reference

LoadEngine = Callable[[ModelSpec, Callable[[float], None] | None], Awaitable[EngineClient]]


class Observer(Protocol):
    """Is told how a benchmark goes on. Called from the event loop while requests run, so it must be quick."""

    def loading(self, model: str, share: float) -> None:
        """`share` of the model is loaded, 0 to 1."""

    def loaded(self, model: ModelResult) -> None:
        """The model answers."""

    def load_started(self, model: str, load: str, requests: int) -> None:
        """A load of so many requests begins."""

    def request_ended(self, record: RequestRecord) -> None:
        """A request of the running load ended."""

    def load_ended(self, model: str, load: str, result: LoadResult) -> None:
        """The load is over, or was cut short."""

    def work_started(self, model: str, what: str, total: int) -> None:
        """Other work, of so many steps, begins."""

    def work_advanced(self, done: int) -> None:
        """So many of the steps are done."""

    def work_ended(self, model: str, what: str, summary: str) -> None:
        """The work is done; `summary` says how it went."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to do with each model.

    Raises:
        UserInputError: there is nothing to run, or a number is out of range.
    """

    prompts: PromptsConfig
    sampling: SamplingParams
    concurrency: tuple[int, ...]
    requests: int | None = None
    warmup: int = 2
    heuristic: bool = True
    objectives: Objectives = field(default_factory=Objectives)

    def __post_init__(self) -> None:
        check_prompts(self.prompts)
        if not self.concurrency:
            raise UserInputError(
                "mode.concurrency is empty", hint="give it numbers, e.g. mode.concurrency=[1,4,8]"
            )
        for name, value, low in (
            ("concurrency", min(self.concurrency), 1),
            ("requests", self.requests if self.requests is not None else 1, 1),
            ("warmup", self.warmup, 0),
        ):
            if value < low:
                raise UserInputError(f"mode.{name}={value} is too small", hint=f"it must be at least {low}")
        if len(set(self.concurrency)) < len(self.concurrency):
            raise UserInputError(
                f"mode.concurrency={list(self.concurrency)} names a load twice", hint="give each number once"
            )

    @classmethod
    def of(cls, mode: BenchmarkMode, prompts: PromptsConfig) -> BenchmarkPlan:
        """The plan of a mode's settings."""
        return cls(
            prompts=prompts,
            sampling=sampling_params(mode.sampling),
            concurrency=tuple(mode.concurrency),
            requests=mode.requests,
            warmup=mode.warmup,
            heuristic=mode.heuristic,
            objectives=Objectives(**dataclasses.asdict(mode.objectives)),
        )

    def requests_at(self, concurrency: int) -> int:
        """Requests of the load with so many users."""
        return self.requests or max(16, 2 * concurrency)


def sampling_params(config: SamplingConfig) -> SamplingParams:
    """The configured sampling as the engine takes it."""
    values = {name: getattr(config, name) for name in SamplingConfig.__dataclass_fields__}
    return SamplingParams(**{**values, "stop": tuple(config.stop)})


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
    load: LoadEngine = load_engine,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Benchmark one model and fill in `result` as it goes, so that it holds what was measured however this ends.

    `on_progress` is called after each load, between measurements. The engine is closed in any case. Fidelity to the
    `reference` comes last, so that what it takes is not in the memory figures; an endpoint has none.

    Raises:
        LqmfError: the model could not be loaded, or its engine was lost.
        asyncio.CancelledError: interrupted; the load under way is in `result`, marked partial, if a request ended.
    """
    started = clock()
    client = await load(spec, lambda share: observer.loading(result.name, share))
    try:
        result.load_time_s = clock() - started
        _describe(result, client.info, spec)
        observer.loaded(result)
        if reference is not None and client.info.format == "openai":
            result.notes.append("fidelity is not measured: an endpoint does not give full distributions")
            reference = None
        if reference is not None:
            await reference.check(client)
        runner = _ModelRun(client, plan, result, observer, log, memory_bandwidth_gb_s, on_progress, clock)
        await runner.warm_up()
        for concurrency in plan.concurrency:
            await runner.run(ClosedLoop(concurrency), plan.requests_at(concurrency))
        if reference is not None:
            await reference.measure(client, result, observer)
            on_progress()
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
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._records: list[RequestRecord] = []

    async def warm_up(self) -> None:
        """Requests that are not counted: they touch all weights and fill the caches of the libraries below."""
        if not self.plan.warmup:
            return
        users = min(self.plan.warmup, max(self.plan.concurrency))
        conversations = plan_conversations(self.plan.prompts, self.plan.warmup)
        await run_load(self.client, ClosedLoop(users), conversations, self.plan.sampling, clock=self.clock)

    async def run(self, shape: LoadShape, requests: int) -> None:
        """One load, measured. Cut short, it is kept as partial if any of its requests ended."""
        # Else the prompts of the last load would still be in the cache, and TTFT would be that of a replay.
        await self.client.reset_prefix_cache()
        before = after = await self.client.stats()
        self.observer.load_started(self.result.name, shape.key, requests)
        measured, whole = LoadLog(), False
        try:
            await run_load(
                self.client, shape, plan_conversations(self.plan.prompts, requests), self.plan.sampling,
                model=self.result.name, log=measured, on_record=self._on_record, clock=self.clock,
            )  # fmt: skip
            after = await self.client.stats()
            self.result.memory = await self.client.memory()
            whole = True
        finally:
            if measured.records:
                self._keep(shape, measured, before, after, partial=not whole)
        self.on_progress()

    def _on_record(self, record: RequestRecord, conversation: Conversation) -> None:
        if self.plan.heuristic and record.error is None:
            asked = conversation.turns[record.turn]
            record.heuristic = score_answer(asked, record.text, cut_off=record.finish_reason == "length")
        self._records.append(record)
        self.log.write(record)
        self.observer.request_ended(record)

    def _keep(
        self, shape: LoadShape, measured: LoadLog, before: EngineStats, after: EngineStats, *, partial: bool
    ) -> None:
        rates = engine_rates(before, after)
        share = bandwidth_utilisation(self.client.info, rates, self.memory_bandwidth_gb_s)
        load = load_result(
            shape.shape, measured.records, measured.duration_s,
            rates=rates, bandwidth_share=share, objectives=self.plan.objectives, partial=partial,
        )  # fmt: skip
        self.result.loads.append(load)
        self.result.quality = msgspec.structs.replace(
            self.result.quality, heuristic=mean_heuristic(self._records)
        )
        self.observer.load_ended(self.result.name, shape.key, load)


def _describe(result: ModelResult, info: ModelInfo, spec: ModelSpec) -> None:
    """Copy what is known of a loaded model. An endpoint knows little of its model: zeros become null."""
    result.format, result.method, result.device = info.format, info.method or None, info.device or None
    result.bits, result.bits_per_weight = info.bits or None, info.bits_per_weight or None
    result.parameters, result.size_mb = info.parameters or None, info.size_mb or None
    result.version = info.version or spec.version or None
    result.notes = list(info.notes)
    result.loads, result.quality = [], Quality()

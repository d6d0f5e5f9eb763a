"""mode=benchmark: speed, memory and answer quality of one or several models, one after the other.

What has been measured is on disk at any moment: requests as they end, `results.json` after each load. Reports are
made from the same objects at the end, and tracking comes last, so that nothing that fails there can lose a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from ..config import BenchmarkMode, RunConfig
from ..engine.on_demand import LoadEngine
from ..errors import INTERRUPTED, LqmfError
from ..evaluation.grading.answers import Opponent
from ..formats import is_remote
from ..load.plan import BenchmarkPlan
from ..results.files import clear_results
from ..results.logs.request_log import RequestLog
from ..results.logs.system_log import SystemLog
from ..results.machine import memory_bandwidth_gb_s
from ..results.schema import Results
from ..types import ModelSpec
from .lifecycle import begin, leave, track
from .locate import Locate, locate_model
from .measuring.graders import Graders
from .measuring.loads import Measured
from .measuring.model import benchmark_model
from .recorder import ModelRecorder, RunRecorder

if TYPE_CHECKING:
    from ..evaluation.fidelity.comparison import Reference
    from ..reports.display import BenchmarkDisplay
    from .context import RunContext

log = logging.getLogger(__name__)


def run(context: RunContext) -> int:
    """Benchmark the chosen models and return the exit code.

    Raises:
        UserInputError: there is nothing to run.
        LqmfError: the only model could not be run.
    """
    from ..engine import load_engine

    return run_with(context, locate=locate_model, load=load_engine)


def run_with(
    context: RunContext,
    *,
    locate: Locate,
    load: LoadEngine,
    conclude: Callable[[Results], None] = lambda _: None,
) -> int:
    """The same with functions that find and load a model. `conclude` adds the conclusions from the results."""
    from ..reports.display import BenchmarkDisplay, run_header

    config, plans = context.config, context.plans
    results = begin(context, "+".join(config.model.name for config in context.models))
    recorder = RunRecorder(results, context.run_dir)
    display = BenchmarkDisplay(
        run_header(config.mode.name, len(plans), results.system, plans[0], config.reference)
    )
    clear_results(context.run_dir)
    interval_s = config.tracking.system_metrics_s if config.tracking.enabled else None
    interrupted = False
    with (
        RequestLog(context.run_dir) as request_log,
        SystemLog(context.run_dir, interval_s) as system_log,
        display,
    ):
        pipeline = _Pipeline(context, recorder, request_log, system_log, display, locate, load)
        try:
            pipeline.run()
        except KeyboardInterrupt:
            interrupted = True
    problem = request_log.problem
    if interrupted:
        recorder.interrupted()
        if context.sweep_dir is not None:
            return INTERRUPTED  # without reports: a resumed sweep runs this job again
    else:
        recorder.measured(problem)
    conclude(results)
    unwritten = [f"requests.jsonl is not complete: {problem}"] if problem else []
    problems = leave(context, results, display, unwritten)
    if interrupted:
        return INTERRUPTED
    if len(results.models) == 1 and recorder.errors:
        raise recorder.errors[0]
    return 1 if recorder.errors or problems else 0


@dataclass
class _Model:
    """A model of the run, and what it has measured. `record` is there from its first turn on."""

    config: RunConfig
    plan: BenchmarkPlan
    measured: Measured = field(default_factory=Measured)
    record: ModelRecorder | None = None


@dataclass
class _Pipeline:
    """Runs the models one after the other. The memory and caches of one are released before the next is loaded."""

    context: RunContext
    recorder: RunRecorder
    request_log: RequestLog
    system_log: SystemLog
    display: BenchmarkDisplay
    locate: Locate
    load: LoadEngine

    def run(self) -> None:
        """Find the graders, run the reference, then all models, then grade the answers.

        Raises:
            KeyboardInterrupt: what was measured until then is recorded.
            LqmfError: something is wrong with the graders or the reference, and no model was run.
        """
        graders, reference = self._prepare()
        models = [_Model(*pair) for pair in zip(self.context.models, self.context.plans, strict=True)]
        self._run_all(models, reference)
        requests = {model.config.model.name: model.measured.records for model in models}
        opponent = None if reference is None else Opponent(reference.figures.name, reference.texts)
        graders.grade(self.recorder.models, requests, opponent, self.context.run_dir, self.display)

    def _prepare(self) -> tuple[Graders, Reference | None]:
        """Find the graders and run the reference, if they are configured."""
        context, reference, what = self.context, None, "grading"
        try:
            graders = Graders.find(context, self.locate, self.load)
            if context.reference is not None and context.config.fidelity.enabled:
                what = f"reference {context.reference.model.name}"
                reference = self._run_reference(context.reference)
        except Exception as error:
            self.recorder.refused(f"{what}: {error}")
            if context.sweep_dir is not None:
                track(context, self.recorder.results, lambda _: None)
            raise
        return graders, reference

    def _run_reference(self, reference: RunConfig) -> Reference:
        from ..evaluation.fidelity.plan import FidelityPlan
        from ..evaluation.fidelity.reference import prepare_reference

        config, name = self.context.config, reference.model.name
        judge = config.judge
        runs_anyway = name in (model.model.name for model in self.context.models)
        beside_it = self.context.judge is not None and judge.pairwise and judge.against in (None, name)
        answers = _mode(config).sampling.params if beside_it and not runs_anyway else None
        plan = FidelityPlan.of(
            config.fidelity, self.locate(reference), config.prompts, config.output_dir, answers
        )
        return asyncio.run(prepare_reference(plan, self.display, load=self.load))

    def _run_all(self, models: Sequence[_Model], reference: Reference | None) -> None:
        """Run all models, or their turns. One that fails does not stop the others."""
        mode = models[0].plan.mode
        for _ in range(mode.repeats if mode.interleave else 1):
            for model in models:
                if model.record is None:
                    model.record = self.recorder.model(model.config.model.name)
                elif model.record.ended_early:
                    continue
                self._run_one(model, model.record, reference)
                self.recorder.save()

    def _run_one(self, model: _Model, record: ModelRecorder, reference: Reference | None) -> None:
        try:
            self._measure(model, record, reference)
            record.answers_measured()
        except KeyboardInterrupt:
            record.interrupted()
            raise
        except Exception as error:
            record.failed(error)
            if not isinstance(error, LqmfError):
                log.error("%s failed", record.name, exc_info=error)
            if len(self.context.models) > 1:
                self.display.failed(record.name, error)

    def _measure(self, model: _Model, record: ModelRecorder, reference: Reference | None) -> None:
        spec = _without_prompt_cache(self.locate(model.config))
        self.system_log.model = record.name
        record.located(spec)
        system = self.recorder.results.system
        if system.memory_bandwidth_gb_s is None and not is_remote(spec.format):
            self.display.say("measuring memory bandwidth")
            self.recorder.memory_bandwidth(memory_bandwidth_gb_s())
        asyncio.run(
            benchmark_model(
                spec,
                model.plan,
                record,
                observer=self.display,
                log=self.request_log,
                measured=model.measured,
                memory_bandwidth_gb_s=system.memory_bandwidth_gb_s,
                reference=reference,
                load=self.load,
            )
        )


def _mode(config: RunConfig) -> BenchmarkMode:
    assert isinstance(config.mode, BenchmarkMode)
    return config.mode


def _without_prompt_cache(spec: ModelSpec) -> ModelSpec:
    """The spec without a prompt cache unless one is configured, because its memory would count as the model's."""
    if spec.options.get("prompt_cache_mb") is None and not is_remote(spec.format):
        return msgspec.structs.replace(spec, options={**spec.options, "prompt_cache_mb": 0})
    return spec

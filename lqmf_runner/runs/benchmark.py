"""mode=benchmark: speed, memory and answer quality of one or several models, one after the other.

What has been measured is on disk at any moment: requests as they end, `results.json` after each load. Reports are
made from the same objects at the end, and tracking comes last, so that nothing that fails there can lose a run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import BenchmarkMode, RunConfig
from ..engine.on_demand import LoadEngine
from ..errors import INTERRUPTED, LqmfError
from ..evaluation.grading.answers import Opponent
from ..formats import is_remote, packages
from ..load.plan import BenchmarkPlan
from ..results.files import clear_results, write_results
from ..results.machine import describe_system, git_commit, memory_bandwidth_gb_s
from ..results.request_log import RequestLog
from ..results.schema import ModelResult, Results, RunRecord
from ..results.system_log import SystemLog
from ..results.times import now
from ..types import ModelSpec
from .folder import sweep_name
from .graders import Graders
from .model import Turns, benchmark_model

if TYPE_CHECKING:
    from ..evaluation.fidelity.comparison import Reference
    from ..reports.display import BenchmarkDisplay
    from .context import RunContext

log = logging.getLogger(__name__)

Locate = Callable[[RunConfig], ModelSpec]


def plan(config: RunConfig) -> BenchmarkPlan:
    """What to do with one model.

    Raises:
        UserInputError: there is nothing to run, or a number is out of range.
    """
    return BenchmarkPlan(_mode(config), config.prompts, similarity=config.similarity.enabled)


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
    """The same with the given ways to find a model and to load it; `conclude` adds what follows from the results."""
    from ..reports.display import BenchmarkDisplay, run_header

    config, plans = context.config, context.plans
    results = begin(context, "+".join(config.model.name for config in context.models))
    header = run_header(config.mode.name, len(plans), results.system, plans[0], config.reference)
    display = BenchmarkDisplay(header)
    clear_results(context.run_dir)
    interval_s = config.tracking.system_metrics_s if config.tracking.enabled else None
    with (
        RequestLog(context.run_dir) as request_log,
        SystemLog(context.run_dir, interval_s) as system_log,
        display,
    ):
        benchmark = _Benchmark(results, context.run_dir, request_log, system_log, display, locate, load)
        interrupted = (
            benchmark.prepare(context) or benchmark.run_all(context.models, plans) or benchmark.grade()
        )
    results.run.reason = _reason(results, benchmark, interrupted=interrupted)
    if interrupted and context.sweep_dir is not None:
        results.run.finished_at = now()
        benchmark.save()  # and no more: who resumes the sweep runs this job again
        return INTERRUPTED
    conclude(results)
    problem = request_log.problem
    problems = [f"requests.jsonl is not complete: {problem}"] if problem else []
    problems = leave(context, results, display, problems)
    if interrupted:
        return INTERRUPTED
    if len(results.models) == 1 and benchmark.errors:
        raise benchmark.errors[0]
    return 1 if benchmark.errors or problems else 0


def begin(context: RunContext, name: str) -> Results:
    """The results of a run that has just begun. Its resolved configuration is saved in its folder."""
    _save_config(context)
    return Results(
        run=RunRecord(
            id=uuid.uuid4().hex[:12],
            mode=context.config.mode.name,
            name=name,
            started_at=now(),
            command=context.command,
            git_commit=git_commit(),
            sweep=sweep_name(context.sweep_dir) if context.sweep_dir else None,
            reason="running",
        ),
        system=describe_system(packages(), measure_bandwidth=False),
    )


def leave(
    context: RunContext, results: Results, display: BenchmarkDisplay, problems: Sequence[str] = ()
) -> list[str]:
    """Write what a run leaves, print the table and send the run to MLflow. Returns what could not be written.

    Raises:
        KeyboardInterrupt: while it was sent. The rest is there.
    """
    from ..reports import write_reports

    results.run.finished_at = now()
    results.run.status = "partial" if results.run.reason else "complete"
    problems = [*problems, *write_reports(results, context.run_dir)]
    measured = any(model.loads for model in results.models)
    if measured:
        display.table(results)
    if results.verdict is not None:
        display.verdict(results.verdict)

    def close(note: str | None = None) -> None:
        display.footer(results, context.run_dir, problems, note)

    # A job of a sweep that failed at once is missed there; a run by itself has said so on the terminal.
    if measured or context.sweep_dir is not None:
        track(context, results, close)
    else:
        close()
    return problems


class _Benchmark:
    """Runs the models one after the other; memory and caches of one are gone before the next is loaded."""

    def __init__(
        self,
        results: Results,
        folder: Path,
        request_log: RequestLog,
        system_log: SystemLog,
        display: BenchmarkDisplay,
        locate: Locate,
        load: LoadEngine,
    ) -> None:
        self.results = results
        self.request_log = request_log
        self._system_log = system_log
        self.errors: list[Exception] = []
        self._reference: Reference | None = None
        self._graders: Graders | None = None
        self._turns: dict[str, Turns] = {}
        self._folder = folder
        self._display = display
        self._locate = locate
        self._load = load

    def prepare(self, context: RunContext) -> bool:
        """Find what grades the answers and run the reference, as far as they are asked for. True if interrupted.

        Raises:
            LqmfError: there is something wrong with them; nothing else is run then.
        """
        what = "grading"
        try:
            self._graders = Graders.find(context, self._locate, self._load)
            if context.reference is not None and context.config.fidelity.enabled:
                what = f"reference {context.reference.model.name}"
                self._reference = self._run_reference(context, context.reference)
        except KeyboardInterrupt:
            return True
        except Exception as error:
            self.results.run.reason = f"{what}: {error}"
            self.results.run.finished_at = now()
            self.save()
            if context.sweep_dir is not None:
                track(context, self.results, lambda _: None)
            raise
        return False

    def _run_reference(self, context: RunContext, reference: RunConfig) -> Reference:
        from ..evaluation.fidelity.plan import FidelityPlan
        from ..evaluation.fidelity.reference import prepare_reference

        config, name = context.config, reference.model.name
        judge = config.judge
        runs_anyway = name in (model.model.name for model in context.models)
        beside_it = context.judge is not None and judge.pairwise and judge.against in (None, name)
        answers = _mode(config).sampling.params if beside_it and not runs_anyway else None
        plan = FidelityPlan.of(
            config.fidelity, self._locate(reference), config.prompts, config.output_dir, answers
        )
        return asyncio.run(prepare_reference(plan, self._display, load=self._load))

    def run_all(self, configs: Sequence[RunConfig], plans: Sequence[BenchmarkPlan]) -> bool:
        """Run all models, or their turns; one that fails does not stop the others. True if interrupted."""
        results = [ModelResult(name=config.model.name) for config in configs]
        turns = [Turns() for _ in configs]
        self._turns = {result.name: own for result, own in zip(results, turns, strict=True)}
        for turn in range(plans[0].mode.repeats if plans[0].mode.interleave else 1):
            for config, plan, result, own in zip(configs, plans, results, turns, strict=True):
                if result.error is not None:
                    continue
                if not turn:
                    self.results.models.append(result)
                try:
                    self._run_one(config, plan, result, own)
                except KeyboardInterrupt:
                    result.error = "interrupted"
                    return True
                except Exception as error:
                    self._failed(result, error, only=len(configs) == 1)
                self.save()
        return False

    def grade(self) -> bool:
        """Let the judge and the embedding model look at all answers, if there are such. True if interrupted."""
        assert self._graders is not None
        reference = self._reference
        records = {name: turns.records for name, turns in self._turns.items()}
        opponent = None if reference is None else Opponent(reference.figures.name, reference.texts)
        interrupted = self._graders.grade(self.results.models, records, opponent, self._folder, self._display)
        self.save()
        return interrupted

    def _run_one(self, config: RunConfig, plan: BenchmarkPlan, result: ModelResult, turns: Turns) -> None:
        spec = self._locate(config)
        self._system_log.model = result.name
        result.format, result.version = spec.format, spec.version or None
        system = self.results.system
        if system.memory_bandwidth_gb_s is None and not is_remote(spec.format):
            self._display.say("measuring memory bandwidth")
            system.memory_bandwidth_gb_s = memory_bandwidth_gb_s()
        asyncio.run(
            benchmark_model(
                spec,
                plan,
                result,
                observer=self._display,
                log=self.request_log,
                memory_bandwidth_gb_s=system.memory_bandwidth_gb_s,
                on_progress=self.save,
                reference=self._reference,
                turns=turns,
                load=self._load,
            )
        )

    def _failed(self, result: ModelResult, error: Exception, *, only: bool) -> None:
        self.errors.append(error)
        result.error = f"{type(error).__name__}: {error}"
        if not isinstance(error, LqmfError):
            log.error("%s failed", result.name, exc_info=error)
        if not only:
            self._display.failed(result.name, error)

    def save(self) -> None:
        """Keep `results.json` current; if that fails now, it is tried again with the next load and at the end."""
        try:
            write_results(self.results, self._folder)
        except OSError as error:
            log.debug("results.json not written yet: %s", error)


def track(context: RunContext, results: Results, tell: Callable[[str | None], None]) -> None:
    """Send the run to MLflow, and tell what went wrong and how to send it later, as one line; None if all is well.

    Raises:
        KeyboardInterrupt: the user, or the machine's scheduler, wants an end; that has been told.
    """
    from ..tracking import create_tracker, send_later_command

    tracking = context.config.tracking

    def not_sent(why: str) -> str:
        return f"not sent to MLflow ({why}); send it later: {send_later_command(context.run_dir, tracking)}"

    try:
        results.run.mlflow_run_id = create_tracker(tracking).send(context.run_dir)
    except LqmfError as error:
        tell(not_sent(error.message))
    except KeyboardInterrupt:
        tell(not_sent("interrupted"))
        raise
    else:
        tell(None)


def _reason(results: Results, benchmark: _Benchmark, *, interrupted: bool) -> str | None:
    """Why a run is partial; None if it is complete."""
    if interrupted:
        return "interrupted"
    failed = [f"{model.name}: {model.error}" for model in results.models if model.error]
    if failed:
        return "; ".join(failed)
    if benchmark.request_log.problem:
        return f"requests.jsonl could not be written: {benchmark.request_log.problem}"
    return None


def _save_config(context: RunContext) -> None:
    """Keep the resolved configuration beside Hydra's files: what `tracking` sends as parameters."""
    try:
        folder = context.run_dir / ".hydra"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolved.json").write_text(json.dumps(context.resolved, indent=2, default=str), "utf-8")
    except OSError as error:
        log.warning("the resolved configuration could not be saved: %s", error)


def _mode(config: RunConfig) -> BenchmarkMode:
    assert isinstance(config.mode, BenchmarkMode)
    return config.mode


def locate_model(config: RunConfig) -> ModelSpec:
    """Find the weights of a configured model."""
    from ..models import locate

    return locate(config.model, config.backend, Path(config.models_dir))

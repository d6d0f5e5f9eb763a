"""The models that grade the answers of a run, a judge and an embedding model.

They are found before anything is measured. They are loaded one after the other when all models have answered and are
closed. If one of them fails, nothing that was measured is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import RunConfig
from ...engine.on_demand import LoadEngine, OnDemandEngine, WorkObserver
from ...errors import LqmfError
from ...evaluation.grading.answers import Answers, Opponent, choose_opponent, first_answers, judged_requests
from ...evaluation.grading.embeddings import add_embeddings
from ...evaluation.grading.judge import Judge, load_rubric
from ...evaluation.grading.judging import JudgePlan, Judging, summary
from ...formats import is_remote
from ...results.files import JUDGEMENTS
from ...results.logs.request_log import RequestLog
from ...results.quality import Quality
from ...results.schema import Judgement, RequestRecord
from ...types import ModelSpec
from ..locate import Locate
from ..recorder import ModelRecorder

if TYPE_CHECKING:
    from ...reports.display import BenchmarkDisplay
    from ..context import RunContext

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graders:
    """A judge and an embedding model; either may be missing."""

    config: RunConfig
    judge: JudgePlan | None
    embedder: ModelSpec | None
    load: LoadEngine

    @classmethod
    def find(cls, context: RunContext, locate: Locate, load: LoadEngine) -> Graders:
        """Find what the configuration names.

        Raises:
            LqmfError: the weights are missing, an endpoint does not answer, or the rubric is wrong.
        """
        config, judge, embedder = context.config, None, None
        if context.judge is not None:
            rubric = load_rubric(config.judge.rubric)
            spec = _ready(locate(context.judge), load)
            judge = JudgePlan(spec, rubric, config.judge, judged_requests(config.prompts))
        if context.embedder is not None:
            embedder = _ready(locate(context.embedder), load)
        return cls(config, judge, embedder, load)

    def grade(
        self,
        models: Sequence[ModelRecorder],
        requests: Mapping[str, Sequence[RequestRecord]],
        reference: Opponent | None,
        folder: Path,
        display: BenchmarkDisplay,
    ) -> None:
        """Grade the answers of all models. Errors become a note of each model.

        Args:
            models: are given the figures, each as soon as it is measured.
            requests: all of them, by the models' names.
            reference: the unquantized model's answers, if they are there.

        Raises:
            KeyboardInterrupt: what was graded until then is recorded.
        """
        entries = self.config.prompts.entries
        answers = {name: first_answers(own, [e.id for e in entries]) for name, own in requests.items()}
        if self.embedder is not None:
            wanted = {e.id: e.reference for e in entries if e.reference is not None and len(e.turns) < 2}
            work = self._embed(self.embedder, models, answers, wanted, display)
            _run(work, f"embeddings by {self.embedder.name}", models, display)
        if self.judge is not None:
            opponent = choose_opponent(self.judge.config, answers, reference)
            with RequestLog(folder, JUDGEMENTS) as lines:
                work = self._judge(self.judge, models, answers, opponent, lines, display)
                _run(work, f"the judge {self.judge.spec.name}", models, display)

    async def _embed(
        self,
        spec: ModelSpec,
        models: Sequence[ModelRecorder],
        answers: Mapping[str, Answers],
        references: Answers,
        observer: WorkObserver,
    ) -> None:
        engine = OnDemandEngine(spec, self.load, observer)
        try:
            for model in models:
                own = {p: text for p, text in (answers.get(model.name) or {}).items() if p in references}
                known = model.result.quality.similarity
                if not own or known is None:
                    continue
                observer.work_started(spec.name, f"embedding {model.name}", len(own))
                found = await add_embeddings(known, await engine.client(), own, references, spec.name)
                model.quality(Quality(similarity=found))
                observer.work_ended(spec.name, f"embedding {model.name}", f"similarity {found.embedding:.2f}")
        finally:
            await engine.close()

    async def _judge(
        self,
        plan: JudgePlan,
        models: Sequence[ModelRecorder],
        answers: Mapping[str, Answers],
        opponent: Opponent | None,
        lines: RequestLog,
        observer: WorkObserver,
    ) -> None:
        engine = OnDemandEngine(plan.spec, self.load, observer)
        try:
            for model in models:
                own = answers.get(model.name) or {}
                other = opponent if opponent is not None and opponent.name != model.name else None
                if own and (plan.config.score or other):
                    judge = Judge(await engine.client(), plan.rubric)
                    await _judge_model(Judging(judge, plan, model.name, own, other), model, lines, observer)
        finally:
            await engine.close()


async def _judge_model(
    judging: Judging, model: ModelRecorder, lines: RequestLog, observer: WorkObserver
) -> None:
    judge, what, found = judging.plan.spec.name, f"judging {model.name}", judging.found

    def step(judgement: Judgement) -> None:
        lines.write(judgement)
        observer.work_advanced(len(found))

    observer.work_started(judge, what, len(judging.answers))
    try:
        await judging.run(step)
    finally:  # an interrupt keeps what was judged
        if found:
            model.quality(Quality(judge=judging.figures))
    observer.work_ended(judge, what, summary(judging.figures))
    failed = [judgement.error for judgement in found if judgement.error]
    if failed:
        model.note(f"{len(failed)} of {len(found)} answers could not be judged: {failed[0]}")


def _run(
    work: Coroutine[Any, Any, None], what: str, models: Sequence[ModelRecorder], display: BenchmarkDisplay
) -> None:
    try:
        asyncio.run(work)
    except Exception as error:
        if not isinstance(error, LqmfError):
            log.error("%s failed", what, exc_info=error)
        display.failed(what, error)
        for model in models:
            model.note(f"not graded, {what} failed: {error}")


def _ready(spec: ModelSpec, load: LoadEngine) -> ModelSpec:
    """The model, after a check that its endpoint answers: an error should appear now, not after all the loads."""

    async def connect() -> None:
        await (await load(spec, None)).close()

    if is_remote(spec.format):
        asyncio.run(connect())
    return spec

"""The models that grade the answers of a run: found before anything is measured, asked when all of it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..engine.on_demand import LoadEngine
from ..errors import LqmfError
from ..evaluation.grading.answers import (
    Answers,
    JudgePlan,
    Opponent,
    choose_opponent,
    embed_answers,
    first_answers,
    judge_answers,
    judged_requests,
)
from ..evaluation.grading.judge import load_rubric
from ..formats import is_remote
from ..results.files import JUDGEMENTS
from ..results.request_log import RequestLog
from ..results.schema import ModelResult, RequestRecord
from ..types import ModelSpec

if TYPE_CHECKING:
    from ..reports.display import BenchmarkDisplay
    from .context import RunContext

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graders:
    """A judge and a model that gives embeddings; either may be missing."""

    config: RunConfig
    judge: JudgePlan | None
    embedder: ModelSpec | None
    load: LoadEngine

    @classmethod
    def find(cls, context: RunContext, locate: Callable[[RunConfig], ModelSpec], load: LoadEngine) -> Graders:
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
        results: Sequence[ModelResult],
        records: Mapping[str, Sequence[RequestRecord]],
        reference: Opponent | None,
        folder: Path,
        display: BenchmarkDisplay,
    ) -> bool:
        """Let them look at the answers of all models. True if interrupted; what else goes wrong is noted.

        Args:
            records: all requests by the models' names.
            reference: the unquantized model's answers, if they are there.
        """
        entries = self.config.prompts.entries
        answers = {name: first_answers(own, [e.id for e in entries]) for name, own in records.items()}
        judge, embedder = self.judge, self.embedder
        if embedder is not None:
            wanted = {e.id: e.reference for e in entries if e.reference is not None and len(e.turns) < 2}
            work = embed_answers(embedder, results, answers, wanted, display, load=self.load)
            if self._do(work, f"embeddings by {embedder.name}", results, display):
                return True
        if judge is not None:
            return self._judge(judge, results, answers, reference, folder, display)
        return False

    def _judge(
        self,
        judge: JudgePlan,
        results: Sequence[ModelResult],
        answers: Mapping[str, Answers],
        reference: Opponent | None,
        folder: Path,
        display: BenchmarkDisplay,
    ) -> bool:
        opponent = choose_opponent(judge.config, answers, reference)
        with RequestLog(folder, JUDGEMENTS) as lines:
            work = judge_answers(
                judge, results, answers, opponent, display, load=self.load, on_judgement=lines.write
            )
            return self._do(work, f"the judge {judge.spec.name}", results, display)

    def _do(
        self,
        work: Coroutine[Any, Any, None],
        what: str,
        results: Sequence[ModelResult],
        display: BenchmarkDisplay,
    ) -> bool:
        try:
            asyncio.run(work)
        except KeyboardInterrupt:
            return True
        except Exception as error:
            if not isinstance(error, LqmfError):
                log.error("%s failed", what, exc_info=error)
            display.failed(what, error)
            for result in results:
                result.notes.append(f"not graded, {what} failed: {error}")
        return False


def _ready(spec: ModelSpec, load: LoadEngine) -> ModelSpec:
    """The model, once it is known that its endpoint answers: better now than after all the loads."""

    async def connect() -> None:
        await (await load(spec, None)).close()

    if is_remote(spec.format):
        asyncio.run(connect())
    return spec

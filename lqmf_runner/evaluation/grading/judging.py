"""A judge grades all answers of one model: one `Judgement` an answer, and the figures over them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...concurrent import for_each
from ...config import JudgeConfig
from ...errors import LqmfError
from ...results.quality import JudgeFigures, PairFigures
from ...results.schema import Judgement
from ...types import ModelSpec
from .answers import Answers, Opponent
from .judge import Judge, Request, Rubric
from .similarity import standard_error

_AT_A_TIME = 8


@dataclass(frozen=True)
class JudgePlan:
    """The judge, its rubric, and the requests."""

    spec: ModelSpec
    rubric: Rubric
    config: JudgeConfig
    requests: Mapping[str, Request] = field(default_factory=dict)


@dataclass(frozen=True)
class Judging:
    """A judge and the answers of one model.

    Attributes:
        name: of the model.
        opponent: whose answers these are compared with; None compares with nobody.
        found: the judgements so far. They are usable at any moment, so also after an interrupt.
    """

    judge: Judge
    plan: JudgePlan
    name: str
    answers: Answers
    opponent: Opponent | None
    found: list[Judgement] = field(default_factory=list)

    async def run(self, on_judgement: Callable[[Judgement], None]) -> None:
        """Judge all answers, several at a time. One that cannot be judged gets the error in its judgement."""

        async def one(prompt: str) -> None:
            judgement = Judgement(model=self.name, prompt_id=prompt)
            try:
                await self._judge(judgement)
            except LqmfError as error:
                judgement.error = error.message
            self.found.append(judgement)
            on_judgement(judgement)

        await for_each(self.answers, one, at_a_time=min(_AT_A_TIME, self.judge.client.info.max_slots))

    @property
    def figures(self) -> JudgeFigures:
        """The figures over what has been judged so far."""
        against = self.opponent.name if self.opponent else None
        return judge_figures(self.found, self.plan.spec, self.plan.rubric, against)

    async def _judge(self, judgement: Judgement) -> None:
        prompt = judgement.prompt_id
        request, answer = self.plan.requests[prompt], self.answers[prompt]
        if self.plan.config.score:
            grade = await self.judge.grade(request, answer)
            judgement.score, judgement.criteria = grade.score, grade.criteria
            judgement.label_mass = grade.label_mass
        if self.opponent is None or prompt not in self.opponent.answers:
            return
        other = self.opponent.answers[prompt]
        judgement.against = self.opponent.name
        if answer == other:
            judgement.preference = 0.5
            return
        preference = await self.judge.prefer(request, answer, other)
        judgement.preference, judgement.outcomes = preference.preference, list(preference.outcomes)
        judgement.first_preferred = preference.first_preferred


def judge_figures(
    judgements: Sequence[Judgement], judge: ModelSpec, rubric: Rubric, against: str | None
) -> JudgeFigures:
    """Means over all answers that could be judged."""
    good = [judgement for judgement in judgements if judgement.error is None]
    scores = [judgement.score for judgement in good if judgement.score is not None]
    names = good[0].criteria if good else ()
    return JudgeFigures(
        model=judge.name,
        version=judge.version,
        rubric=rubric.name,
        rubric_digest=rubric.digest,
        answers=len(good),
        failed=len(judgements) - len(good),
        score=statistics.fmean(scores) if scores else None,
        score_se=standard_error(scores),
        criteria={name: statistics.fmean(j.criteria[name] for j in good) for name in names},
        label_mass=statistics.fmean(j.label_mass or 0.0 for j in good) if scores else None,
        pairs=_pair_figures(good, against) if against is not None else None,
    )


def _pair_figures(judgements: Sequence[Judgement], against: str) -> PairFigures | None:
    pairs = [(j.preference, j) for j in judgements if j.preference is not None]
    if not pairs:
        return None
    preferences = [preference for preference, _ in pairs]
    shown = [j for _, j in pairs if j.outcomes]
    agreed = [j.outcomes[0] for j in shown if j.outcomes[0] == j.outcomes[1]]
    wins, losses = agreed.count("win"), agreed.count("loss")
    return PairFigures(
        against=against,
        pairs=len(pairs),
        identical=len(pairs) - len(shown),
        wins=wins,
        losses=losses,
        ties=len(pairs) - wins - losses,
        preference=statistics.fmean(preferences),
        preference_se=standard_error(preferences),
        order_disagreement=1 - len(agreed) / len(shown) if shown else None,
        first_preferred=statistics.fmean(j.first_preferred or 0.0 for j in shown) if shown else None,
    )


def summary(figures: JudgeFigures) -> str:
    """The figures in a few words, for the progress display."""
    parts = [] if figures.score is None else [f"score {figures.score:.2f}"]
    if figures.pairs is not None:
        pairs = figures.pairs
        parts.append(f"{pairs.wins} won, {pairs.ties} tied, {pairs.losses} lost against {pairs.against}")
    return "  ".join(parts) or "nothing could be judged"

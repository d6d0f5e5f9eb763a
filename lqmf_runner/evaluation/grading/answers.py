"""Grading: once all models have answered, a judge and a model that gives embeddings look at the answers.

They are loaded one after the other, when the graded models are gone. Nothing that goes wrong with them costs what was
measured: it is said in the notes of the models.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ...concurrent import for_each
from ...config import JudgeConfig, PromptsConfig
from ...engine.client import EngineClient
from ...engine.on_demand import LoadEngine, OnDemandEngine, WorkObserver
from ...errors import LqmfError
from ...results.quality import JudgeFigures, PairFigures
from ...results.schema import Judgement, ModelResult, RequestRecord
from ...types import ModelSpec
from .judge import Judge, Request, Rubric
from .similarity import cosine, standard_error

_AT_A_TIME = 8
_TEXTS_AT_ONCE = 64

Answers = Mapping[str, str]  # by prompt id


@dataclass(frozen=True)
class Opponent:
    """Whose answers each model's are held against."""

    name: str
    answers: Answers


@dataclass(frozen=True)
class JudgePlan:
    """Who judges, by what, and which requests."""

    spec: ModelSpec
    rubric: Rubric
    config: JudgeConfig
    requests: Mapping[str, Request] = field(default_factory=dict)


def judged_requests(prompts: PromptsConfig) -> dict[str, Request]:
    """What a judge is told of each prompt: the system prompt and the first turn, and the reference answer to it."""
    found = {}
    for entry in prompts.entries:
        text = entry.prompt or entry.turns[0]
        asked = f"{prompts.system}\n\n{text}" if prompts.system else text
        found[entry.id] = Request(asked, entry.reference if len(entry.turns) < 2 else None)
    return found


def first_answers(records: Iterable[RequestRecord], prompts: Iterable[str]) -> dict[str, str]:
    """The first whole answer to the first turn of each of the prompts, in their order."""
    found: dict[str, str] = {}
    for record in records:
        if record.error is None and record.turn == 0:
            found.setdefault(record.prompt_id, record.text)
    return {prompt: found[prompt] for prompt in prompts if prompt in found}


def choose_opponent(
    config: JudgeConfig, answers: Mapping[str, Answers], reference: Opponent | None
) -> Opponent | None:
    """Whose answers to compare with; None where that is not asked for or there is nobody.

    Args:
        answers: of each model of the run, by name.
        reference: the unquantized model with its answers, if they are there.
    """
    if not config.pairwise:
        return None
    known = {name: Opponent(name, own) for name, own in answers.items() if own}
    if reference is not None and reference.answers:
        known.setdefault(reference.name, reference)
    if config.against is not None:
        return known.get(config.against)
    if reference is not None and reference.name in known:
        return known[reference.name]
    return next(iter(known.values())) if len(known) > 1 else None


async def judge_answers(
    plan: JudgePlan,
    results: Sequence[ModelResult],
    answers: Mapping[str, Answers],
    opponent: Opponent | None,
    observer: WorkObserver,
    *,
    load: LoadEngine,
    on_judgement: Callable[[Judgement], None],
) -> None:
    """Let the judge see all models' answers and fill in `quality.judge`.

    `on_judgement` is called for each answer. One that cannot be judged is counted as failed.

    Raises:
        LqmfError: the judge could not be loaded.
    """
    engine = OnDemandEngine(plan.spec, load, observer)
    try:
        for result in results:
            own = answers.get(result.name) or {}
            other = opponent if opponent is not None and opponent.name != result.name else None
            if not own or not (plan.config.score or other):
                continue
            sitting = _Sitting(Judge(await engine.client(), plan.rubric), plan, result.name, own, other)
            await _hear(sitting, result, observer, on_judgement)
    finally:
        await engine.close()


async def _hear(
    sitting: _Sitting, result: ModelResult, observer: WorkObserver, on_judgement: Callable[[Judgement], None]
) -> None:
    judge, what, found = sitting.plan.spec.name, f"judging {result.name}", sitting.found

    def step(judgement: Judgement) -> None:
        on_judgement(judgement)
        observer.work_advanced(len(found))

    observer.work_started(judge, what, len(sitting.answers))
    try:
        await sitting.run(step)
    finally:  # an interrupt keeps what was judged
        if found:
            result.quality = msgspec.structs.replace(result.quality, judge=sitting.figures)
    observer.work_ended(judge, what, _summary(sitting.figures))
    failed = [judgement.error for judgement in found if judgement.error]
    if failed:
        result.notes.append(f"{len(failed)} of {len(found)} answers could not be judged: {failed[0]}")


@dataclass(frozen=True)
class _Sitting:
    """A judge before the answers of one model. `found` holds what it has said so far."""

    judge: Judge
    plan: JudgePlan
    name: str
    answers: Answers
    opponent: Opponent | None
    found: list[Judgement] = field(default_factory=list)

    async def run(self, on_judgement: Callable[[Judgement], None]) -> None:
        """Judge all answers, several at a time."""

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
        """Over what has been judged."""
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


def _summary(figures: JudgeFigures) -> str:
    parts = [] if figures.score is None else [f"score {figures.score:.2f}"]
    if figures.pairs is not None:
        pairs = figures.pairs
        parts.append(f"{pairs.wins} won, {pairs.ties} tied, {pairs.losses} lost against {pairs.against}")
    return "  ".join(parts) or "nothing could be judged"


async def embed_answers(
    spec: ModelSpec,
    results: Sequence[ModelResult],
    answers: Mapping[str, Answers],
    references: Answers,
    observer: WorkObserver,
    *,
    load: LoadEngine,
) -> None:
    """Fill in the mean cosine of the embeddings of answers and reference answers.

    Raises:
        LqmfError: the model could not be loaded, or does not give embeddings.
    """
    engine = OnDemandEngine(spec, load, observer)
    try:
        for result in results:
            own = {p: text for p, text in (answers.get(result.name) or {}).items() if p in references}
            known = result.quality.similarity
            if not own or known is None:
                continue
            observer.work_started(spec.name, f"embedding {result.name}", len(own))
            client = await engine.client()
            vectors = await _embed(client, [text or " " for text in own.values()])
            wanted = await _embed(client, [references[prompt] for prompt in own])
            near = [cosine(a, b) for a, b in zip(vectors, wanted, strict=True)]
            mean = statistics.fmean(near)
            figures = msgspec.structs.replace(
                known, embedding=mean, embedding_se=standard_error(near), embedded_by=spec.name
            )
            result.quality = msgspec.structs.replace(result.quality, similarity=figures)
            observer.work_ended(spec.name, f"embedding {result.name}", f"similarity {mean:.2f}")
    finally:
        await engine.close()


async def _embed(client: EngineClient, texts: Sequence[str]) -> list[list[float]]:
    found: list[list[float]] = []
    for at in range(0, len(texts), _TEXTS_AT_ONCE):
        found += (await client.embed(texts[at : at + _TEXTS_AT_ONCE])).vectors
    return found

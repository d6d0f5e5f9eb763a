"""A judge: a model that grades answers by typed decisions against a rubric. It generates nothing.

An answer gets a level on each criterion; of two answers the judge says which is better, once with either of them
first, as judges prefer a place (Zheng et al. 2023, "Judging LLM-as-a-Judge"). Requests and answers are untrusted: each
stands between marks that hold a digest of all of them, which nobody who writes one can know, and what chat templates
mark turns with is taken apart.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from ...decisions.decide import Option, Question, check_questions, decide
from ...engine.client import EngineClient
from ...errors import LqmfError, UserInputError
from ...yaml_file import read_yaml

SHIPPED = Path(__file__).parent / "rubrics" / "default.yaml"
Outcome = Literal["win", "tie", "loss"]
# The outcome of each option for the first answer.
_OUTCOMES: tuple[Outcome, ...] = ("win", "loss", "tie")
_WHICH = (Option("the first answer"), Option("the second answer"), Option("both are equally good"))
# <|im_end|>, <start_of_turn>, </s>, [INST]: special tokens of the chat templates there are
_CONTROL = re.compile(r"<(?=[|｜]|/?s>|/?(?:start|end)_of_|/?(?:bos|eos|think)>)|\[(?=/?[A-Z_]{3,}\])")
_APART = "\u200b"


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question about an answer, and its levels from the worst to the best."""

    name: str
    question: str
    levels: list[str]


class Rubric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The questions of a judge. `better` is the question about two answers."""

    name: str
    criteria: list[Criterion]
    better: str
    instructions: str = ""

    @property
    def digest(self) -> str:
        """Hex digest of all questions."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    @property
    def questions(self) -> list[Question]:
        """The criteria as typed decisions."""
        return [
            Question(
                name=c.name, kind="score", text=c.question, options=tuple(Option(level) for level in c.levels)
            )
            for c in self.criteria
        ]


def load_rubric(path: str | None = None) -> Rubric:
    """The rubric of a YAML file; the included one if no file is named.

    Raises:
        UserInputError: it cannot be read, or a criterion is malformed.
    """
    file = SHIPPED if path is None else Path(path).expanduser()
    rubric = read_yaml(file, Rubric, what="rubric", setting="judge.rubric")
    try:
        check_questions(rubric.questions)
    except LqmfError as error:
        raise UserInputError(f"the rubric {file.name} is wrong: {error.message}", hint=error.hint) from None
    names = [criterion.name for criterion in rubric.criteria]
    if len(set(names)) < len(names) or not rubric.better.strip():
        raise UserInputError(
            f"the rubric {file.name} is wrong: it has a criterion twice, or `better` is empty",
            hint="name each criterion once, and ask which of two answers is better",
        )
    return rubric


@dataclass(frozen=True)
class Request:
    """What was asked, and an answer that a person would accept, if there is one."""

    prompt: str
    reference: str | None = None


@dataclass(frozen=True)
class Grade:
    """Of one answer: each criterion from 0 (the lowest level) to 1, and the mass of the levels' labels."""

    criteria: dict[str, float]
    label_mass: float

    @property
    def score(self) -> float:
        """The mean over the criteria."""
        return statistics.fmean(self.criteria.values())


@dataclass(frozen=True)
class Preference:
    """Of an answer beside another.

    Attributes:
        preference: probability that it is the better one, a tie counting half; mean over both orders.
        outcomes: for it, standing first and standing second.
        first_preferred: probability of whichever answer stood first, mean over both orders.
    """

    preference: float
    outcomes: tuple[Outcome, Outcome]
    first_preferred: float


@dataclass(frozen=True)
class Judge:
    """A model with a rubric."""

    client: EngineClient
    rubric: Rubric

    async def grade(self, request: Request, answer: str) -> Grade:
        """Grade an answer on each criterion.

        Raises:
            LqmfError: see `decisions.decide.decide`.
        """
        state = _delimited(request, {"ANSWER": answer})
        decision = await decide(
            self.client, state, self.rubric.questions, instructions=self.rubric.instructions
        )
        return Grade(
            criteria={a.question.name: a.score / (len(a.probabilities) - 1) for a in decision.answers},
            label_mass=statistics.fmean(a.label_mass for a in decision.answers),
        )

    async def prefer(self, request: Request, answer: str, other: str) -> Preference:
        """Compare an answer with another, in both orders.

        Raises:
            LqmfError: see `decisions.decide.decide`.
        """
        first = await self._which(request, answer, other)
        second = await self._which(request, other, answer)
        ahead = (first[0] + first[2] / 2, second[1] + second[2] / 2)
        turned: dict[Outcome, Outcome] = {"win": "loss", "loss": "win", "tie": "tie"}
        return Preference(
            preference=statistics.fmean(ahead),
            outcomes=(_likeliest(first), turned[_likeliest(second)]),
            first_preferred=statistics.fmean((first[0] + first[2] / 2, second[0] + second[2] / 2)),
        )

    async def _which(self, request: Request, first: str, second: str) -> Sequence[float]:
        """Probabilities of the first, the second and neither."""
        state = _delimited(request, {"FIRST ANSWER": first, "SECOND ANSWER": second})
        question = Question(name="better", kind="choice", text=self.rubric.better, options=_WHICH)
        decision = await decide(self.client, state, [question], instructions=self.rubric.instructions)
        return decision.answers[0].probabilities


def _likeliest(probabilities: Sequence[float]) -> Outcome:
    """The outcome for the first answer; a tie if both answers are equally likely to be better."""
    best = max(probabilities)
    if probabilities[0] == probabilities[1] == best:
        return "tie"
    return _OUTCOMES[probabilities.index(best)]


def _delimited(request: Request, answers: dict[str, str]) -> str:
    texts = {"REQUEST": request.prompt}
    if request.reference is not None:
        texts["A GOOD ANSWER, TO COMPARE WITH"] = request.reference
    texts |= answers
    # The same in both orders of two answers, so that the second has the request in the engine's prefix cache.
    mark = hashlib.sha256(msgspec.json.encode(sorted(texts.values()))).hexdigest()[:8]
    return "\n\n".join(
        f"[{mark} {name}]\n{_CONTROL.sub(_apart, text)}\n[{mark} END]" for name, text in texts.items()
    )


def _apart(found: re.Match[str]) -> str:
    return found.group() + _APART

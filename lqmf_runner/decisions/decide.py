"""Typed questions about a state, answered with a probability for every option. No text is generated.

Each question is one prompt: the state, then the question, then its options with a label each. The next-token scores
after the prompt give the probability of each label. The state comes first and is the same in all prompts of a
decision, so that it is computed once and reused. The probabilities are the model's own, normalized over the options.
They are not calibrated.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from itertools import product
from string import ascii_uppercase
from typing import Any, Literal

import msgspec

from ..engine.client import EngineClient
from ..engine.options import log_sum
from ..errors import InvalidRequestError
from ..types import GenerationRequest, Message

MAX_QUESTIONS = 64
MAX_CHOICES = 255
MAX_LEVELS = 10
Kind = Literal["choice", "score", "yes_no"]
_YES_NO = ("yes", "no")


class Option(msgspec.Struct, frozen=True):
    """One possible answer. `value` is its name in an API, if that differs."""

    name: str
    description: str = ""
    value: Any = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question with a fixed set of answers.

    Attributes:
        name: what the asker calls it; may be empty.
        kind: "choice" of one option, "score" on levels that go up from the first, or "yes_no".
        text: the question in plain words; may be empty.
        options: 1 to 255 of a choice, 2 to 10 levels of a score; of yes_no, "yes" and "no", whose descriptions may
            tell when each holds.
    """

    name: str
    kind: Kind
    text: str = ""
    options: tuple[Option, ...] = (Option("yes"), Option("no"))

    @property
    def labels(self) -> list[str]:
        """The labels that the model answers with: yes and no, 0 to 9 for levels, A to Z for choices, then AA, AB,
        ...
        """
        n = len(self.options)
        if self.kind == "yes_no":
            return list(_YES_NO)
        if self.kind == "score":
            return [str(i) for i in range(n)]
        if n <= len(ascii_uppercase):
            return list(ascii_uppercase[:n])
        return ["".join(pair) for pair in product(ascii_uppercase, repeat=2)][:n]


class DecisionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question.

    Attributes:
        probabilities: of each option, in their order; they sum to 1.
        label_mass: the probability of all labels together among everything the model could have said. Where it is
            low, the model would rather have said something else.
    """

    question: Question
    probabilities: tuple[float, ...]
    label_mass: float

    @property
    def best(self) -> Option:
        """The most likely option."""
        return self.question.options[self.probabilities.index(self.confidence)]

    @property
    def confidence(self) -> float:
        """The probability of the most likely option."""
        return max(self.probabilities)

    @property
    def score(self) -> float:
        """The expected level, Σ i · p(i), counted from 0."""
        return math.fsum(i * p for i, p in enumerate(self.probabilities))


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answers in the order of the questions, and the tokens of all their prompts."""

    answers: tuple[DecisionAnswer, ...]
    prompt_tokens: int
    cached_tokens: int


async def decide(
    engine: EngineClient,
    state: str | Sequence[Message],
    questions: Sequence[Question],
    *,
    instructions: str = "",
    template_options: Mapping[str, Any] | None = None,
) -> Decision:
    """Ask all questions about a state; each is answered independently of the others.

    Args:
        state: what they are about: text, or a conversation, whose next turn the question becomes.
        instructions: put before every question.
        template_options: for the chat template; thinking is switched off unless they say otherwise.

    Raises:
        InvalidRequestError: malformed questions, a prompt that is too long, or labels this model cannot tell apart.
        RemoteEngineError: the endpoint does not tell the log-probabilities of its most likely tokens.
    """
    check_questions(questions)
    options = {"enable_thinking": False} | dict(template_options or {})
    places = asyncio.Semaphore(max(engine.info.max_slots, 1))

    async def ask(question: Question) -> tuple[DecisionAnswer, int, int]:
        request = _request(engine, state, "\n\n".join(filter(None, (instructions, _ask(question)))), options)
        async with places:
            scores = await engine.option_logprobs(request, [_forms(label) for label in question.labels])
        return _answer(question, scores.logprobs), scores.prompt_tokens, scores.cached_tokens

    asked = await asyncio.gather(*map(ask, questions))
    return Decision(
        answers=tuple(answer for answer, _, _ in asked),
        prompt_tokens=sum(prompt for _, prompt, _ in asked),
        cached_tokens=sum(cached for _, _, cached in asked),
    )


def check_questions(questions: Sequence[Question]) -> None:
    """Refuse questions that cannot be asked.

    Raises:
        InvalidRequestError: names the question and what is wrong with it.
    """
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise InvalidRequestError(f"{len(questions)} questions", hint=f"ask 1 to {MAX_QUESTIONS}")
    limits = {"choice": (1, MAX_CHOICES), "score": (2, MAX_LEVELS), "yes_no": (2, 2)}
    for question in questions:
        low, high = limits[question.kind]
        names = [option.name for option in question.options]
        if not low <= len(names) <= high:
            raise InvalidRequestError(
                f"question '{question.name}' has {len(names)} options",
                hint=f"a {question.kind} has {low} to {high}",
            )
        if not all(name.strip() for name in names):
            raise InvalidRequestError(f"question '{question.name}' has an option without a name")
        if question.kind == "choice" and len(set(names)) < len(names):
            raise InvalidRequestError(f"question '{question.name}' has an option twice")
        described = any(option.description for option in question.options)
        if not question.text.strip() and question.kind == "yes_no" and not described:
            raise InvalidRequestError(f"question '{question.name}' asks nothing")


def _request(
    engine: EngineClient, state: str | Sequence[Message], question: str, options: dict[str, Any]
) -> GenerationRequest:
    turns = [Message("user", state)] if isinstance(state, str) else list(state)
    if not turns:
        raise InvalidRequestError("the state is empty")
    if not engine.info.chat_template:
        text = "\n\n".join(turn.content or "" for turn in turns)
        return GenerationRequest(prompt=f"{text}\n\n{question}\nAnswer:")
    if turns[-1].role == "user":  # many templates require alternating roles
        turns[-1] = msgspec.structs.replace(turns[-1], content=f"{turns[-1].content or ''}\n\n{question}")
    else:
        turns.append(Message("user", question))
    return GenerationRequest(messages=tuple(turns), template_options=options)


def _ask(question: Question) -> str:
    lines = [f"Question: {question.text}"] if question.text.strip() else []
    for label, option in zip(question.labels, question.options, strict=True):
        words = [option.name] if question.kind != "yes_no" else []
        words += [option.description] if option.description else []
        if words:
            lines.append(f"{label}: {' - '.join(words)}")
    kind = {"choice": "the letter of one option", "score": "the number of one level", "yes_no": "yes or no"}
    return "\n".join([*lines, f"Answer with {kind[question.kind]} only."])


def _forms(label: str) -> list[str]:
    spellings = [label, label.capitalize()] if label in _YES_NO else [label]
    return [space + spelling for spelling in spellings for space in ("", " ")]


def _answer(question: Question, logprobs: Sequence[float]) -> DecisionAnswer:
    total = log_sum(logprobs)
    weights = [math.exp(value - total) for value in logprobs]
    whole = math.fsum(weights)
    return DecisionAnswer(
        question=question,
        probabilities=tuple(weight / whole for weight in weights),
        label_mass=min(math.exp(total), 1.0),
    )

"""Sets of typed decisions whose right options are known: the one that ships, and YAML files like it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...errors import LqmfError, UserInputError
from ...yaml_file import read_yaml
from ..decide import Kind, Option, Question, check_questions

SHIPPED = Path(__file__).parent / "lqmf_decisions.yaml"


@dataclass(frozen=True)
class KnownDecision:
    """A question about a text, and the index of its right option."""

    id: str
    text: str
    question: Question
    right: int


@dataclass(frozen=True)
class DecisionSet:
    """Decisions under a name."""

    name: str
    decisions: Sequence[KnownDecision]

    @property
    def digest(self) -> str:
        """Hex digest of all that is asked."""
        asked = [(decision.text, decision.question) for decision in self.decisions]
        return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str
    answer: str | bool  # YAML reads a bare yes as true


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    question: str
    items: list[_Item]
    options: list[str] = []
    levels: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    questions: list[_Asked]


def load_decisions(path: str | None = None) -> DecisionSet:
    """The decisions of a YAML file; of the one that ships where none is named.

    Raises:
        UserInputError: it cannot be read, or a question is malformed.
    """
    file = SHIPPED if path is None else Path(path).expanduser()
    content = read_yaml(file, _File, what="decision set", setting="fidelity.decision_set")
    found = [_decision(asked, item) for asked in content.questions for item in asked.items]
    ids = [decision.id for decision in found]
    doubled = next((name for name in ids if ids.count(name) > 1), None)
    if not found or doubled is not None:
        why = "has no decisions" if doubled is None else f"has the id '{doubled}' more than once"
        raise UserInputError(f"the decision set {file.name} {why}", hint="correct the file")
    return DecisionSet(content.name, found)


def _decision(asked: _Asked, item: _Item) -> KnownDecision:
    names = asked.options or asked.levels or ["yes", "no"]
    kind: Kind = "choice" if asked.options else "score" if asked.levels else "yes_no"
    answer = ("yes" if item.answer else "no") if isinstance(item.answer, bool) else item.answer
    question = Question(name=item.id, kind=kind, text=asked.question, options=tuple(map(Option, names)))
    try:
        check_questions([question])
    except LqmfError as error:
        raise UserInputError(f"decision '{item.id}': {error.message}", hint=error.hint) from None
    if answer not in names or not item.text.strip():
        why = "has no text" if answer in names else f"answers '{answer}'"
        raise UserInputError(f"decision '{item.id}' {why}", hint=f"its options are: {', '.join(names)}")
    return KnownDecision(item.id, item.text, question, names.index(answer))

"""Which answers of a run are graded, with which requests, and with whose answers they are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...config import JudgeConfig, PromptsConfig
from ...results.schema import RequestRecord
from .judge import Request

Answers = Mapping[str, str]  # by prompt id


@dataclass(frozen=True)
class Opponent:
    """The answers with which each model's answers are compared."""

    name: str
    answers: Answers


def judged_requests(prompts: PromptsConfig) -> dict[str, Request]:
    """What a judge reads of each prompt: the system prompt, the first turn, and the reference answer to it."""
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
    """Whose answers to compare with. None if this is not configured or there are none.

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

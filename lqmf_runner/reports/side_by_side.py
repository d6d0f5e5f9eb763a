"""Answers of several models to the same prompt, side by side, and the first word in which they differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..results.schema import Judgement, RequestRecord, Results


@dataclass(frozen=True)
class Answer:
    """One model's answer in three parts: `same` as the first one's, the word `parting` from it, and the `rest`.

    The first answer is all `rest`. `parting` is empty where the two agree to the end, or this one ends earlier;
    `note` says which.
    """

    model: str
    facts: str
    same: str
    parting: str
    rest: str
    note: str

    @property
    def text(self) -> str:
        """The whole answer."""
        return self.same + self.parting + self.rest


@dataclass(frozen=True)
class Comparison:
    """A prompt, by its id and, where it is known, its text, and the answers; the first is what others are held to."""

    prompt_id: str
    prompt: str
    answers: Sequence[Answer]


def compare_answers(
    results: Results,
    records: Sequence[RequestRecord],
    prompts: dict[str, str],
    most: int,
    judgements: Sequence[Judgement] = (),
) -> list[Comparison]:
    """Comparisons of the first prompts that were answered, each model's first answer to it.

    They are held to the answers of the reference if that is among the models, else to the first model's.

    Args:
        prompts: text by id, where it is known.
        most: how many prompts to show.
        judgements: of a judge; its scores are shown with the answers.
    """
    scores = {(j.prompt_id, j.model): j.score for j in judgements if j.score is not None}
    first: dict[tuple[str, str], RequestRecord] = {}
    for record in records:
        if record.error is None and record.turn == 0:
            first.setdefault((record.prompt_id, record.model), record)
    names = [model.name for model in results.models]
    base = reference_name(results)
    names.sort(key=lambda name: name != base)
    comparisons = []
    for prompt_id in list(dict.fromkeys(prompt_id for prompt_id, _ in first))[:most]:
        found = [first[prompt_id, name] for name in names if (prompt_id, name) in first]
        answers = [_answer(record, found[0], scores.get((prompt_id, record.model))) for record in found]
        text = getattr(found[0], "prompt", "") or prompts.get(prompt_id, "")
        comparisons.append(Comparison(prompt_id, text, answers))
    return comparisons


def reference_name(results: Results) -> str | None:
    """What fidelity was measured against; None where it was not."""
    if results.verdict is not None and results.verdict.reference is not None:
        return results.verdict.reference
    found = (model.quality.reference for model in results.models)
    return next((reference.name for reference in found if reference is not None), None)


def marked_against(results: Results, shown: Sequence[Comparison]) -> str | None:
    """Whose answers the marks hold the others to, in words; None where nothing is held against anything."""
    base = next((comparison.answers[0].model for comparison in shown if len(comparison.answers) > 1), None)
    if base is None:
        return None
    reference = reference_name(results)
    who = "the reference" if base == reference else "the first model"
    said = f"Marked is the first word in which an answer parts from that of {base}, {who}"
    if reference is None or base == reference:
        return f"{said}."
    return f"{said}: the reference {reference} is not among the models that were run."


def split_at_parting(base: str, other: str) -> tuple[str, str, str]:
    """`other` as (words it shares with the beginning of `base`, the first that differs, what follows it).

    How much space is between words does not matter. The parts join to `other`.
    """
    words = base.split()
    end = 0
    for number, word in enumerate(re.finditer(r"\S+", other)):
        if number >= len(words) or word.group() != words[number]:
            return other[: word.start()], word.group(), other[word.end() :]
        end = word.end()
    return other[:end], "", other[end:]


def _answer(record: RequestRecord, base: RequestRecord, judged: float | None) -> Answer:
    score = f", heuristic {record.heuristic.score:.2f}" if record.heuristic else ""
    score += f", judge {judged:.2f}" if judged is not None else ""
    ended = f", {record.finish_reason}" if record.finish_reason else ""
    facts = f"{record.output_tokens} tokens{ended}{score}"
    if record is base:
        return Answer(record.model, facts, "", "", record.text, "")
    same, parting, rest = split_at_parting(base.text, record.text)
    words = len(same.split())
    if parting:
        note = f"parts from {base.model} after {words} word{'' if words == 1 else 's'}"
    else:
        note = "the same" if words == len(base.text.split()) else f"the same, but ends after {words} words"
    return Answer(record.model, facts, same, parting, rest, note)

"""The votes of the arena: a line each in `arena.jsonl` beside the runs, and their count."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..results.files import read_lines
from ..results.times import now

FILE = "arena.jsonl"
TIE, NONE = "tie", "none"
_writing = threading.Lock()


class Vote(msgspec.Struct, kw_only=True):
    """One vote. `winner` is a model's name, "tie" or "none"; `round` is the same if a vote is sent twice."""

    round: str
    at: str
    question: str
    models: list[str]
    winner: str
    blind: bool


def keep_vote(
    outputs: Path, round_id: str, question: str, models: Sequence[str], winner: str, *, blind: bool
) -> bool:
    """Add a vote; False if this round has one already.

    Raises:
        OSError: it cannot be written.
    """
    path = outputs / FILE
    with _writing:
        if any(vote.round == round_id for vote in read_lines(path, Vote)):
            return False
        vote = Vote(
            round=round_id, at=now(), question=question, models=list(models), winner=winner, blind=blind
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(msgspec.json.encode(vote) + b"\n")
    return True


def count_votes(outputs: Path) -> list[list[str]]:
    """For each model: rounds, wins, ties, losses, and how many of its wins were blind. The most wins come first."""
    rounds: Counter[str] = Counter()
    wins: Counter[str] = Counter()
    ties: Counter[str] = Counter()
    blind: Counter[str] = Counter()
    for vote in read_lines(outputs / FILE, Vote):
        for model in dict.fromkeys(vote.models):
            rounds[model] += 1
            wins[model] += vote.winner == model
            ties[model] += vote.winner == TIE
            blind[model] += vote.winner == model and vote.blind
    order = sorted(rounds, key=lambda model: (-wins[model] / rounds[model], model))
    return [
        [
            model,
            *map(
                str,
                (
                    rounds[model],
                    wins[model],
                    ties[model],
                    rounds[model] - wins[model] - ties[model],
                    blind[model],
                ),
            ),
        ]
        for model in order
    ]

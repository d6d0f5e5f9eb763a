"""How much of plain English the console understands: a table for docs/console.md, by intent.

python benchmarks/understanding.py
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lqmf_runner.console.understanding.steps import UNKNOWN
from lqmf_runner.console.understanding.understand import Understanding
from tests.support.utterances import NAMES, Utterance, utterances

SETS = ("seen", "unseen")
_ALL = "**all**"


def main() -> None:
    """Print the table and what was done for sentences that are out of scope."""
    console = Understanding(NAMES)
    right: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for name in SETS:
        for sentence in utterances(name):
            good = sentence.matches(console.steps(sentence.text))
            for row in (_row(sentence), _ALL):
                total[name, row] += 1
                right[name, row] += good
    print("| intent | seen | unseen |\n|---|---|---|")
    rows = dict.fromkeys(row for _, row in total if row != _ALL)
    for row in (*rows, _ALL):
        cells = (f"{right[name, row]} of {total[name, row]}" for name in SETS)
        print(f"| {row} | {' | '.join(cells)} |")
    for name in SETS:
        print(f"{name}: {right[name, _ALL] / total[name, _ALL]:.1%}")
    scope = list(utterances("out_of_scope"))
    wrong = [s.text for s in scope if console.steps(s.text)[0].intent != UNKNOWN]
    print(f"out of scope: {len(wrong)} of {len(scope)} acted on", *wrong, sep="\n  ")


def _row(sentence: Utterance) -> str:
    return sentence.intents[0] if len(sentence.intents) == 1 else "several steps"


if __name__ == "__main__":
    main()

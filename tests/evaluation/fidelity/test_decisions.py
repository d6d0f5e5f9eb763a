"""Decision flips and calibration: figures computed a second time in the test, and models of known damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.decisions.decide import Option, Question
from lqmf_runner.decisions.sets import DecisionSet, KnownDecision, load_decisions
from lqmf_runner.errors import UserInputError
from lqmf_runner.evaluation.fidelity.decisions import Decided, calibration, compare_decisions, decide_all
from tests.support.engine.bigram import BigramEngine, table

KINDS = {"choice": (2, 6), "score": (3, 5), "yes_no": (2, 2)}


def decision(name: str, right: int, n: int = 2) -> KnownDecision:
    options = tuple(Option(f"o{i}") for i in range(n))
    return KnownDecision(name, "text", Question(name=name, kind="choice", text="?", options=options), right)


def decided(*probabilities: float) -> Decided:
    return Decided(probabilities, 0.5)


THREE = DecisionSet("three", [decision("a", 0), decision("b", 1), decision("c", 2, 3)])


def test_figures_of_three_decisions_by_hand() -> None:
    reference = {"a": decided(0.9, 0.1), "b": decided(0.6, 0.4), "c": decided(0.2, 0.3, 0.5)}
    own = {"a": decided(0.4, 0.6), "b": decided(0.3, 0.7), "c": decided(0.2, 0.2, 0.6)}
    found = compare_decisions(THREE, own, reference)
    assert found.flip_rate == pytest.approx(2 / 3)  # a is lost, b is gained, c stays
    assert found.flip_rate_se == pytest.approx(np.std([1, 1, 0], ddof=1) / np.sqrt(3))
    assert (found.lost, found.gained) == (1, 1)
    assert found.distance == pytest.approx((0.5 + 0.3 + 0.1) / 3)
    assert found.reference.accuracy == pytest.approx(2 / 3)
    assert found.own.accuracy == pytest.approx(2 / 3)
    assert found.own.brier == pytest.approx((2 * 0.6**2 + 2 * 0.3**2 + (0.04 + 0.04 + 0.16)) / 3)
    assert found.label_mass == 0.5
    # confidences 0.6 (wrong), 0.7 and 0.6 (right): bins 0.6-0.7 with two, 0.7-0.8 with one
    assert found.own.ece == pytest.approx(2 / 3 * abs(1 / 2 - 0.6) + 1 / 3 * abs(1 - 0.7))


def test_calibration_agrees_with_another_computation() -> None:
    random = np.random.default_rng(3)
    known = DecisionSet("many", [decision(f"d{i}", int(random.integers(4)), 4) for i in range(300)])
    rows = random.dirichlet(np.full(4, 0.5), 300)
    found = calibration(known, {d.id: decided(*row) for d, row in zip(known.decisions, rows, strict=True)})
    right = np.array([d.right for d in known.decisions])
    hit = rows.argmax(1) == right
    assert found.accuracy == pytest.approx(hit.mean())
    assert found.brier == pytest.approx(((rows - np.eye(4)[right]) ** 2).sum(1).mean())
    sure, error = rows.max(1), 0.0
    for low in np.arange(10) / 10:
        inside = (sure >= low) & (sure < low + 0.1)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - sure[inside].mean())
    assert found.ece == pytest.approx(error)


def test_a_model_that_knows_and_says_so_is_calibrated() -> None:
    sure = {"a": decided(1, 0), "b": decided(0, 1), "c": decided(0, 0, 1)}
    found = calibration(THREE, sure)
    assert (found.accuracy, found.brier, found.ece) == (1, 0, 0)


async def test_a_damaged_model_flips_more() -> None:
    decisions = load_decisions()
    reference = await decide_all(BigramEngine(table()), decisions)
    noise = np.random.default_rng(9).normal(size=(256, 256)).astype(np.float32)
    same, near, far = [
        compare_decisions(
            decisions, await decide_all(BigramEngine(table() + size * noise), decisions), reference
        )
        for size in (0.0, 0.3, 3.0)
    ]
    assert (same.flip_rate, same.distance, same.lost + same.gained) == (0, 0, 0)
    assert 0 < near.flip_rate < far.flip_rate
    assert 0 < near.distance < far.distance
    assert far.flip_rate > 0.2
    assert far.reference == same.own


def test_the_set_that_ships_is_of_use() -> None:
    decisions = load_decisions().decisions
    assert len(decisions) >= 60
    assert len({d.text for d in decisions}) == len(decisions)
    for kind, (least, most) in KINDS.items():
        mine = [d for d in decisions if d.question.kind == kind]
        assert len(mine) >= 18
        assert all(least <= len(d.question.options) <= most for d in mine)
        for place in range(2):  # no place of the options is right more often than chance would have it
            assert sum(d.right == place for d in mine) <= 0.55 * len(mine)


GOOD = "name: mine\nquestions:\n- question: Is it?\n  items:\n  - {id: x, text: It is., answer: yes}\n"


def test_a_set_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    (found,) = load_decisions(str(path)).decisions
    assert (found.question.kind, found.right) == ("yes_no", 0)  # a bare yes is true in YAML


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("answer: yes", "answer: perhaps"), "answers 'perhaps'"),
        (GOOD.replace("It is.", "' '"), "has no text"),
        (GOOD.replace("  items", "  levels: [only]\n  items"), "has 1 options"),
        (GOOD.replace("  items", "  option: [a, b]\n  items"), "unknown field"),
        (GOOD + "  - {id: x, text: Again., answer: no}\n", "'x' more than once"),
        ("name: mine\nquestions: []\n", "has no decisions"),
        ("name: [\n", "is wrong"),
    ],
)
def test_a_set_that_is_wrong_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserInputError, match=said):
        load_decisions(str(path))


def test_a_set_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="cannot be read"):
        load_decisions(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserInputError, match="is wrong"):
        load_decisions(str(tmp_path / "binary.yaml"))

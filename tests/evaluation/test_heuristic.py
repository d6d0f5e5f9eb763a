"""The heuristic on cases where people would agree which answer is better."""

from __future__ import annotations

import math
import time

import pytest

from lqmf_runner.evaluation.heuristic import mean_heuristic, score_answer
from lqmf_runner.results.quality import HeuristicScore
from lqmf_runner.results.schema import RequestRecord

EXPLAIN = "Explain how photosynthesis works in plants."
GOOD = (
    "Photosynthesis is the process by which plants turn sunlight into chemical energy. In the leaves, chlorophyll "
    "absorbs light, water is split into oxygen and hydrogen, and carbon dioxide is built into sugar that the plant "
    "uses to grow."
)
OFF_TOPIC = (
    "The stock market rose on Tuesday after the central bank held its rates. Investors bought shares of technology "
    "firms, while oil prices fell for the third day in a row amid fears of weak demand."
)
BABBLE = (
    "xkq the of plrtz ;;; of of wqrr ## @@ zzzt lkjh mnbvc qqq of the && rtyp dfghj kl ;; asdfgh the zxcvb"
)
WORD_SALAD = (
    "purple seven running the colon about therefore sky is window then because of under table when he went spoon large "
    "orange quickly tree were not car over music stone of glass by paper went seven lamp"
)


def total(prompt: str, answer: str, *, cut_off: bool = False) -> float:
    return score_answer(prompt, answer, cut_off=cut_off).score


@pytest.mark.parametrize(
    "worse",
    [
        "", "   \n", "Photosynthesis is a process. " * 20, "plants " * 30, OFF_TOPIC, BABBLE, WORD_SALAD,
        "\ufffd\ufffd\x01 a \ufffd b\ufffd", "Plants.", GOOD[:40],
    ],
)  # fmt: skip
def test_a_good_answer_beats(worse: str) -> None:
    assert total(EXPLAIN, GOOD) > total(EXPLAIN, worse) + 0.1


def test_the_order_of_bad_answers() -> None:
    empty, loop = total(EXPLAIN, ""), total(EXPLAIN, "plants grow and " * 20)
    babble, off_topic = total(EXPLAIN, BABBLE), total(EXPLAIN, OFF_TOPIC)
    assert empty == 0.0
    assert empty < loop < babble < off_topic < total(EXPLAIN, GOOD)


def test_a_loop_after_a_good_start_is_noticed() -> None:
    assert total(EXPLAIN, GOOD + " The plant grows." * 30) < total(EXPLAIN, GOOD) - 0.3


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("What is the capital of France?", "Paris."),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Answer with one word: what colour is a ripe banana?", "Yellow"),
        ("What is 17 * 3?", "51"),
        ("Is the earth flat?", "No."),
        ("Translate 'good morning' into French.", "Bonjour"),
        (
            "List five fruits that are red.",
            "1. Apples\n2. Strawberries\n3. Cherries\n4. Raspberries\n5. Pomegranates",
        ),
    ],
)
def test_short_correct_answers_are_not_punished(prompt: str, answer: str) -> None:
    assert total(prompt, answer) >= 0.85


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (
            "Write a Python function that reverses a string.",
            "```python\ndef reverse_string(s):\n    return s[::-1]\n```",
        ),
        (
            "Write a SQL query for the names of all users older than 30.",
            "SELECT name FROM users WHERE age > 30;",
        ),
        (
            "Implement a stack class in Python with push and pop.",
            "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
            "        self.items.append(item)\n\n    def pop(self):\n        if not self.items:\n"
            "            raise IndexError('pop from empty stack')\n        return self.items.pop()\n",
        ),
        (
            "Write a function in JavaScript that sums an array.",
            "function sum(numbers) {\n  let total = 0;\n  for (const n of numbers) {\n    total += n;\n  }\n"
            "  return total;\n}",
        ),
    ],
)
def test_code_is_not_punished(prompt: str, answer: str) -> None:
    assert total(prompt, answer) >= 0.9


@pytest.mark.parametrize(
    ("prompt", "good", "off_topic"),
    [
        (
            "请解释光合作用是如何进行的。",
            "光合作用是植物利用阳光把水和二氧化碳转化为糖和氧气的过程。叶绿素吸收光能，推动这一反应。",
            "昨天股市上涨，投资者买入了科技公司的股票，而油价连续第三天下跌，因为人们担心需求疲软，市场情绪低迷。",
        ),
        (
            "Объясни, как работает фотосинтез у растений.",
            "Фотосинтез — это процесс, при котором растения превращают свет, воду и углекислый газ в сахар и кислород.",
            "Вчера акции выросли, потому что центральный банк сохранил ставку. Инвесторы покупали бумаги "
            "технологических компаний, а нефть дешевела третий день подряд из-за слабого спроса на рынке.",
        ),
        (
            "Erkläre, wie die Photosynthese bei Pflanzen funktioniert.",
            "Bei der Photosynthese wandeln Pflanzen Licht, Wasser und Kohlendioxid in Zucker und Sauerstoff um.",
            "Gestern stiegen die Aktien, weil die Zentralbank den Zins hielt. Anleger kauften Papiere von "
            "Technologiefirmen, während Öl erneut billiger wurde, da viele mit wenig Nachfrage rechnen.",
        ),
    ],
)
def test_other_languages(prompt: str, good: str, off_topic: str) -> None:
    assert total(prompt, good) >= 0.9
    assert total(prompt, good) > total(prompt, off_topic) + 0.1
    assert total(prompt, good) > total(prompt, good[:12] * 12) + 0.3


def test_an_answer_cut_by_the_token_limit_is_not_blamed_for_it() -> None:
    cut = GOOD[:150]
    assert total(EXPLAIN, cut, cut_off=True) > total(EXPLAIN, cut)
    assert total(EXPLAIN, cut, cut_off=True) >= 0.95


def test_an_endless_answer_to_a_short_question_loses_length_points() -> None:
    long = " ".join(f"Paris has street number {n} and house {n * 7}, near {n * 13}." for n in range(60))
    assert score_answer("What is the capital of France?", long).length < 0.2


@pytest.mark.parametrize("answer", ["", "x", GOOD, BABBLE, "!" * 50, "🙂🙂", "a\x00b", "\n\n\n", "9" * 5000])
def test_parts_stay_in_their_ranges_and_add_up(answer: str) -> None:
    for prompt in (EXPLAIN, "", "?", "词"):
        got = score_answer(prompt, answer)
        assert 0 <= got.length <= 0.3
        assert 0 <= got.relevance <= 0.3
        assert 0 <= got.coherence <= 0.4
        assert math.isclose(got.score, got.length + got.relevance + got.coherence, abs_tol=1e-6)


def test_time_grows_with_the_text_and_no_faster() -> None:
    def spent(text: str) -> float:
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            score_answer(EXPLAIN, text)
            best = min(best, time.perf_counter() - start)
        return best

    for piece in ("word ", "f(", "(a", "x" * 30, "```", "b.", "é "):
        assert spent(piece * 16_000) < 64 * max(spent(piece * 1_000), 1e-4)  # 16 times the text


def record(**values: object) -> RequestRecord:
    return RequestRecord(model="m", load="c2", prompt_id="p", turn=0, user=0, **values)  # type: ignore[arg-type]


def test_mean_heuristic_leaves_failures_out() -> None:
    records = [
        record(heuristic=HeuristicScore(1.0, 0.3, 0.3, 0.4)),
        record(heuristic=HeuristicScore(0.5, 0.1, 0.2, 0.2)),
        record(heuristic=HeuristicScore(), error="x"),
    ]
    mean = mean_heuristic(records)
    assert mean is not None
    assert mean.score == 0.75
    assert mean.length == pytest.approx(0.2)
    assert mean_heuristic([record()]) is None

"""Similarity to reference answers: cases worked out by hand, a second computation, cases where people would agree."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lqmf_runner.evaluation.grading.similarity import (
    cosine,
    longest_common_subsequence,
    mean_similarity,
    similarity,
    standard_error,
)


def test_words_are_counted_as_often_as_they_occur_in_both() -> None:
    found = similarity("The cat sat on the mat.", "the mat: a cat")
    # shared: the, cat, mat of 6 and 4 words; in order: "the mat"
    assert found.f1 == pytest.approx(2 * 3 / 10)
    assert found.recall == pytest.approx(3 / 4)
    assert found.rouge_l == pytest.approx(2 * 2 / 10)


def test_case_and_punctuation_do_not_matter_and_order_matters_to_rouge_alone() -> None:
    assert similarity("Kim, Otto, Mia!", "kim otto mia") == (1, 1, 1)
    turned = similarity("mia otto kim", "Kim, Otto, Mia")
    assert (turned.f1, turned.recall) == (1, 1)
    assert turned.rouge_l == pytest.approx(1 / 3)


def test_a_long_answer_that_has_the_right_number_keeps_its_recall() -> None:
    answer = (
        "First, 210 - 40 = 170 km are left. At 170 km/h together they need one hour, so they meet at 10:30."
    )
    assert similarity(answer, "10:30").recall == 1
    assert similarity(answer, "10:30").f1 < 0.2
    assert similarity(answer, "11:15").recall == 0


def test_nothing_is_only_like_nothing() -> None:
    assert similarity("", "x") == similarity("x", "...") == (0, 0, 0)
    assert similarity(" ", "!") == (1, 1, 1)


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert similarity("东京是首都", "首都是东京").f1 == 1
    assert similarity("东京是首都", "巴黎很美丽").f1 == 0


REFERENCE = "The pool is closed today and tomorrow because of a burst pipe. Lessons on Wednesday take place as planned."


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (
            "Because of a burst pipe the pool is closed today and tomorrow; lessons on Wednesday take place.",
            "The pool is closed.",
        ),
        ("The pool is closed today and tomorrow, a pipe has burst.", "The library opens at ten on Mondays."),
        ("A burst pipe closes the pool today and tomorrow.", "pipe pipe pipe pipe pipe pipe pipe pipe pipe"),
    ],
)
def test_the_better_summary_is_the_more_similar_one(better: str, worse: str) -> None:
    assert similarity(better, REFERENCE).f1 > similarity(worse, REFERENCE).f1
    assert similarity(better, REFERENCE).rouge_l > similarity(worse, REFERENCE).rouge_l


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_subsequence_is_the_longest_there_is(a: str, b: str) -> None:
    def has(text: str, part: tuple[str, ...]) -> bool:
        rest = iter(text)
        return all(letter in rest for letter in part)

    longest = max(n for n in range(len(a) + 1) if any(has(b, part) for part in combinations(a, n)))
    assert longest_common_subsequence(a, b) == longest


def test_means_are_over_prompts_and_not_over_answers() -> None:
    references = {"a": "one two", "b": "three", "unasked": "four"}
    answers = [("a", "one two"), ("a", "one two"), ("a", "five six"), ("b", "seven"), ("c", "one two")]
    found = mean_similarity(answers, references)
    assert found is not None
    assert (found.prompts, found.answers) == (2, 4)
    assert found.f1 == pytest.approx((2 / 3 + 0) / 2)
    assert found.f1_se == pytest.approx(abs(2 / 3 - 0) / 2)  # of two values: s / √2 is half their difference
    assert mean_similarity(answers, {"unasked": "four"}) is None


def test_cosine_and_standard_error() -> None:
    assert cosine([1, 2], [2, 4]) == pytest.approx(1)
    assert cosine([1, 0], [0, 3]) == 0
    assert cosine([0, 0], [1, 1]) == 0
    assert standard_error([1, 2, 3]) == pytest.approx(1 / math.sqrt(3))
    assert standard_error([5]) is None

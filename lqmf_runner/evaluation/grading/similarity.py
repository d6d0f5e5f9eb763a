"""The similarity of an answer to a reference answer, word by word, without a second model.

The reference is one answer that a person would accept, not the only one: a paraphrase scores low. It tells models
that lose facts from those that keep them, over many prompts; of a single answer it says little.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ...results.quality import SimilarityFigures
from ..words import split_words

Key = TypeVar("Key", bound=Hashable)


class Similarity(NamedTuple):
    """Of one answer to its reference, each 0 to 1.

    Attributes:
        f1: harmonic mean of the share of the answer's words that are in the reference and of the reference's words that
            are in the answer, as often as they occur there (token F1, Rajpurkar et al. 2016, articles kept).
        recall: the second of the two alone: a long answer that ends in the right number has it.
        rouge_l: the same harmonic mean over the longest common subsequence of words (ROUGE-L, Lin 2004, β = 1), to
            which the order of words matters.
    """

    f1: float
    recall: float
    rouge_l: float


@functools.lru_cache(maxsize=4096)  # greedy answers repeat with every load
def similarity(answer: str, reference: str) -> Similarity:
    """Compare an answer with a reference. Neither has to have any words."""
    said, wanted = split_words(answer), split_words(reference)
    if not said or not wanted:
        same = float(said == wanted)
        return Similarity(same, same, same)
    shared = (Counter(said) & Counter(wanted)).total()
    in_order = longest_common_subsequence(said, wanted)
    n = len(said) + len(wanted)
    return Similarity(2 * shared / n, shared / len(wanted), 2 * in_order / n)


def mean_similarity(
    answers: Iterable[tuple[Key, str]], references: Mapping[Key, str]
) -> SimilarityFigures | None:
    """Means over all prompts that have a reference, of the mean over each prompt's answers; None if there are none.

    Args:
        answers: pairs of a prompt's key and an answer to it.
        references: by the prompts' keys.
    """
    found: dict[Key, list[Similarity]] = {}
    for prompt, answer in answers:
        if prompt in references:
            found.setdefault(prompt, []).append(similarity(answer, references[prompt]))
    if not found:
        return None
    means = [
        [math.fsum(part) / len(scores) for part in zip(*scores, strict=True)] for scores in found.values()
    ]
    f1, recall, rouge_l = zip(*means, strict=True)
    return SimilarityFigures(
        f1=statistics.fmean(f1),
        f1_se=standard_error(f1),
        recall=statistics.fmean(recall),
        recall_se=standard_error(recall),
        rouge_l=statistics.fmean(rouge_l),
        prompts=len(found),
        answers=sum(map(len, found.values())),
    )


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 where one has no length."""
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values, s / √n; None for fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length, bit-parallel (Hyyrö 2004): bit i of a row is 0 where a longest subsequence gains a[i]."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for word in b:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & full
    return len(a) - row.bit_count()

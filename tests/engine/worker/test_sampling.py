"""Every sampling setting beside a plain computation of what it means."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from lqmf_runner.engine.worker.sampling import (
    Sampler,
    _draw,
    _index_at,
    check_sampling,
    largest,
    token_logprob,
)
from lqmf_runner.errors import EngineError, InvalidRequestError
from lqmf_runner.types import SamplingParams

NAN = float("nan")
INF = float("inf")


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    return [w / sum(weights) for w in weights]


def expected(logits: list[float], p: SamplingParams, prompt: list[int], answer: list[int]) -> list[float]:
    """The distribution that the settings stand for, by their definitions, one at a time."""
    scores = [x + p.logit_bias.get(i, 0.0) for i, x in enumerate(logits)]
    for i in set(prompt) | set(answer):
        scores[i] = scores[i] / p.repetition_penalty if scores[i] > 0 else scores[i] * p.repetition_penalty
    for i, n in Counter(answer).items():
        scores[i] -= p.presence_penalty + n * p.frequency_penalty
    probs = softmax([s / p.temperature for s in scores])
    order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
    keep = order[: p.top_k] if p.top_k else order
    total = sum(probs[i] for i in keep)
    nucleus, reached = [], 0.0
    for i in keep:
        nucleus.append(i)
        reached += probs[i] / total
        if reached >= p.top_p:
            break
    likely = [i for i in nucleus if probs[i] >= p.min_p * probs[nucleus[0]]]
    total = sum(probs[i] for i in likely)
    return [probs[i] / total if i in likely else 0.0 for i in range(len(probs))]


def drawn(logits: list[float], p: SamplingParams, prompt: list[int], answer: list[int]) -> list[float]:
    """The distribution that is drawn from: the share of evenly spaced uniforms that gives each token."""
    sampler = Sampler(p, prompt, len(logits))
    for token in answer:
        sampler._counts[token] = sampler._counts.get(token, 0) + 1
        sampler._seen.add(token)
    row = np.array(logits, np.float32)
    scores = sampler._adjust(row) if sampler._changes_logits else row
    n = 4000
    counts = Counter(_draw(scores, p, (k + 0.5) / n) for k in range(n))
    return [counts[i] / n for i in range(len(logits))]


_random = random.Random(3)
LOGITS = [round(_random.gauss(0, 2), 3) for _ in range(40)]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 3.0},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 1000},
        {"top_p": 0.5},
        {"top_p": 0.95},
        {"top_p": 0.0},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"logit_bias": {3: 4.0, 7: -100.0}},
        {"repetition_penalty": 1.5},
        {"repetition_penalty": 0.7},
        {"presence_penalty": 1.2},
        {"frequency_penalty": 0.8},
        {"frequency_penalty": -0.8, "presence_penalty": -0.5},
        {"temperature": 1.4, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
        {
            "temperature": 0.8, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2,
            "presence_penalty": 0.4, "frequency_penalty": 0.3, "logit_bias": {1: 2.0, 2: -3.0},
        },
    ],
    ids=lambda p: " ".join(p) or "plain",
)  # fmt: skip
def test_draws_follow_the_distribution_the_settings_mean(params: dict) -> None:
    p = SamplingParams(**params)
    prompt, answer = [0, 4, 9], [2, 4, 2, 2, 11]
    wanted = expected(LOGITS, p, prompt, answer)
    got = drawn(LOGITS, p, prompt, answer)
    assert got == pytest.approx(wanted, abs=1.5 / 4000)


def test_seeded_draws_come_in_their_frequencies() -> None:
    logits = np.array([0.0, 1.0, 2.0, -1.0], np.float32)
    sampler = Sampler(SamplingParams(seed=5), [], 4)
    n = 20_000
    counts = Counter(sampler.sample(logits) for _ in range(n))
    chi_squared = sum(
        (counts[i] - n * p) ** 2 / (n * p) for i, p in enumerate(softmax([float(x) for x in logits]))
    )
    assert chi_squared < 16.3  # 3 degrees of freedom, p = 0.001


def test_a_large_vocabulary_is_cut_exactly() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, 50_000).astype(np.float32)  # flat: a nucleus far beyond the first guess
    weights = np.exp(logits.astype(np.float64))
    order = np.argsort(-weights, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    allowed = set(order[: int(np.searchsorted(share, 0.9)) + 1].tolist())
    sampler = Sampler(SamplingParams(seed=0, top_p=0.9), [], len(logits))
    drawn = {sampler.sample(logits) for _ in range(30)}
    assert drawn <= allowed
    assert _draw(logits, SamplingParams(top_p=0.9), 1 - 1e-12) == order[len(allowed) - 1]


def test_the_uniform_at_its_ends_gives_a_token() -> None:
    logits = np.array([-INF, 1.0, 2.0, -INF], np.float32)
    assert _draw(logits, SamplingParams(), 0.0) == 1
    assert _draw(logits, SamplingParams(), 1 - 2**-53) == 2
    assert _draw(logits, SamplingParams(temperature=1e-6), 0.5) == 2


def test_penalties_count_tokens_as_they_are_drawn() -> None:
    logits = np.array([3.0, 2.5, 2.4], np.float32)
    sampler = Sampler(SamplingParams(temperature=0, frequency_penalty=0.55), [], 3)
    # 3.0 | 2.45 2.5 | 2.45 1.95 2.4 | 1.9 1.95 2.4 | 1.9 1.95 1.85 | 1.9 ...
    assert [sampler.sample(logits) for _ in range(6)] == [0, 1, 0, 2, 1, 0]


def test_the_repetition_penalty_reaches_the_prompt_and_the_others_do_not() -> None:
    logits = np.array([3.0, 2.9, -1.0], np.float32)
    assert Sampler(SamplingParams(temperature=0, repetition_penalty=1.1), [0], 3).sample(logits) == 1
    penalties = SamplingParams(temperature=0, presence_penalty=2, frequency_penalty=2)
    assert Sampler(penalties, [0, 0], 3).sample(logits) == 0


def test_the_row_of_logits_is_left_as_it_is() -> None:
    logits = np.array(LOGITS, np.float32)
    before = logits.copy()
    params = SamplingParams(seed=0, logit_bias={1: 5.0}, repetition_penalty=2, top_k=3, top_p=0.5, min_p=0.1)
    Sampler(params, [1, 2], len(logits)).sample(logits)
    assert np.array_equal(logits, before)


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(SamplingParams(temperature=0), [], 4).sample(np.array([1, 5, 5, 5], np.float32)) == 1


def test_a_seed_gives_the_same_draws_and_another_gives_others() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingParams(seed=seed), [], 1000)
        return [sampler.sample(logits) for _ in range(20)]

    seeds = [0, 1, -2, -(2**63), 2**63 - 1, 2**64 - 2]
    assert [draws(s) for s in seeds] == [draws(s) for s in seeds]
    # -2 and 2**64 - 2 are the same 64 bits
    assert len({tuple(draws(s)) for s in seeds}) == len(seeds) - 1
    assert draws(None) != draws(None)
    assert draws(-1) != draws(-1), "-1 is none"


@pytest.mark.parametrize("n", [1, 5, 63, 64, 65, 1000, 6400, 6431])
@pytest.mark.parametrize("kind", ["random", "ties", "equal", "masked", "ascending"])
def test_largest_is_a_stable_sort(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    values = {
        "random": rng.normal(0, 1, n),
        "ties": rng.integers(0, 4, n),
        "equal": np.zeros(n),
        "masked": np.where(rng.random(n) < 0.95, -INF, rng.normal(0, 1, n)),
        "ascending": np.arange(n),
    }[kind].astype(np.float32)
    by_sort = np.argsort(-values, kind="stable")
    for k in {1, 2, 20, n // 64, n // 2, n - 1, n} & set(range(1, n + 1)):
        assert largest(values, k).tolist() == by_sort[:k].tolist()


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 5000])
def test_a_share_of_the_weights_falls_where_one_by_one_they_add_up_to_it(n: int) -> None:
    rng = np.random.default_rng(n)
    weights = np.exp(rng.normal(0, 3, n)) * (rng.random(n) < 0.3)
    weights[rng.integers(n)] = 1.0
    exact = np.cumsum([Fraction(w) for w in weights])
    shares = [0.0, 0.5, *rng.random(200)]
    for share in shares:
        goal = Fraction(share) * exact[-1]
        assert _index_at(weights, share) == next(i for i, total in enumerate(exact) if total > goal)
    last = int(np.flatnonzero(weights)[-1])
    assert _index_at(weights, float(np.nextafter(1.0, 0.0))) == last, "a weight of 0 is never drawn"


def test_infinity_at_the_top_is_an_error_where_tokens_are_drawn() -> None:
    with pytest.raises(EngineError, match="infinite"):
        Sampler(SamplingParams(), [], 3).sample(np.array([0, INF, 0], np.float32))


@pytest.mark.parametrize("where", [0, 3, 200])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(),
        SamplingParams(top_k=3),
        SamplingParams(top_p=0.5),
        SamplingParams(min_p=0.5),
        SamplingParams(logit_bias={1: 1.0}),
    ],
    ids=["greedy", "plain", "top_k", "top_p", "min_p", "bias"],
)
def test_nan_is_an_error_not_a_token(params: SamplingParams, where: int) -> None:
    logits = np.zeros(256, np.float32)
    logits[where] = NAN
    with pytest.raises(EngineError, match="NaN"):
        Sampler(params, [], 256).sample(logits)


def test_logprobs_are_those_of_the_softmax() -> None:
    logits = np.array(LOGITS, np.float32)
    probs = softmax([float(x) for x in logits])
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    report = token_logprob(logits, 7, 5, str)
    assert report.logprob == pytest.approx(math.log(probs[7]), abs=1e-6)
    assert [i for i, _, _ in report.top] == order[:5]
    assert [v for _, _, v in report.top] == pytest.approx([math.log(probs[i]) for i in order[:5]], abs=1e-6)
    assert token_logprob(logits, 7, 0, str).top == ()


def test_logprobs_of_huge_logits_stay_finite() -> None:
    report = token_logprob(np.array([1e4, 1e4, -1e4], np.float32), 2, 3, str)
    assert report.top[0][2] == pytest.approx(-math.log(2))
    assert math.isfinite(report.logprob)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (name, value)
        for name, values in {
            "temperature": (NAN, INF, -0.1, 101.0),
            "top_p": (NAN, -0.1, 1.1),
            "min_p": (NAN, -0.1, 1.1),
            "top_k": (-1, 2**40),
            "repetition_penalty": (NAN, 0.0, -1.0, 1000.0),
            "presence_penalty": (NAN, INF, -101.0),
            "frequency_penalty": (NAN, 101.0),
            "max_tokens": (0, -5),
            "logprobs": (-1, 21),
            "seed": (-(2**63) - 1, 2**64),
        }.items()
        for value in values
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidRequestError, match=field) as caught:
        check_sampling(SamplingParams(**{field: value}))
    assert "from" in caught.value.hint


@pytest.mark.parametrize("bias", [{1: 100.5}, {1: NAN}, {1: -INF}])
def test_a_bias_out_of_range_is_refused(bias: dict[int, float]) -> None:
    with pytest.raises(InvalidRequestError, match="logit_bias"):
        check_sampling(SamplingParams(logit_bias=bias))


@pytest.mark.parametrize("token", [-1, 40])
def test_a_bias_for_no_token_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequestError, match="outside the vocabulary"):
        Sampler(SamplingParams(logit_bias={token: 1.0}), [], 40)

"""Stored distributions and what is computed from them, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from lqmf_runner.engine.worker.distributions import CODE, NotFiniteError, compare_rows, record_rows

N_VOCAB = 49_152


def log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Like a language model's: a bulk and a few tokens that stand out."""
    random = np.random.default_rng(seed)
    logits = random.normal(-2, 3, (n, N_VOCAB))
    logits[:, :20] += random.exponential(6, (n, 20))
    return logits.astype(np.float32)


def recorded(logits: np.ndarray, targets: list[int]) -> tuple[np.ndarray, list[float], list[int]]:
    codes = np.empty(logits.shape, CODE)
    scores = record_rows(logits, targets, codes)
    return codes, scores.nll, scores.top


def test_a_row_is_stored_so_precisely_that_it_hardly_differs_from_itself() -> None:
    logits = rows(16)
    codes, nll, top = recorded(logits, list(range(16)))
    exact = log_softmax(logits)
    assert nll == pytest.approx(-exact[range(16), range(16)], abs=1e-5)
    assert top == logits.argmax(axis=1).tolist()
    kld = compare_rows(logits, list(range(16)), codes).kld
    assert np.abs(kld).max() < 2e-6
    assert abs(np.mean(kld)) < 2e-7


def test_kld_of_near_and_far_rows_agrees_with_float64() -> None:
    reference = rows(8)
    codes, _, _ = recorded(reference, [0] * 8)
    for noise in (0.01, 0.1, 1.0):
        other = reference + np.random.default_rng(1).normal(0, noise, reference.shape).astype(np.float32)
        p, q = log_softmax(reference), log_softmax(other)
        exact = (np.exp(p) * (p - q)).sum(axis=1)
        scores = compare_rows(other, [3] * 8, codes)
        # Rounding of the stored row, 2.8e-4 rms, times the spread of the difference, averaged over its tokens.
        assert scores.kld == pytest.approx(exact, abs=2e-6 + 5e-4 * noise)
        assert scores.nll == pytest.approx(-q[:, 3], abs=1e-5)
        assert scores.top == other.argmax(axis=1).tolist()


def test_known_answers() -> None:
    reference = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    other = np.log(np.array([[0.25, 0.25, 0.5]], np.float32)) + 7  # a shift of all logits changes nothing
    codes, nll, top = recorded(reference, [1])
    assert (nll, top) == ([pytest.approx(np.log(4), abs=1e-6)], [0])
    scores = compare_rows(other, [2], codes)
    assert scores.kld == [pytest.approx(0.25 * np.log(2), abs=5e-4)]
    assert scores.nll == [pytest.approx(np.log(2), abs=1e-6)]
    assert scores.top == [2]


def test_masked_entries_cancel_and_padding_is_left_out() -> None:
    reference, other = rows(2), rows(2, seed=1)
    p, q = log_softmax(reference[:, :1000]), log_softmax(other[:, :1000])
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    reference[:, 1000:] = other[:, 1000:] = -np.inf
    codes, _, _ = recorded(reference, [0, 0])
    assert compare_rows(other, [0, 0], codes).kld == pytest.approx(exact, abs=5e-3)
    assert compare_rows(other[:, :1000], [0, 0], codes).kld == pytest.approx(exact, abs=5e-3)
    narrow, _, _ = recorded(reference[:, :1000], [0, 0])
    assert compare_rows(other, [0, 0], narrow).kld == pytest.approx(exact, abs=5e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(value: float) -> None:
    logits = rows(4)
    codes, _, _ = recorded(logits, [0] * 4)
    logits[2, 4000] = value
    for score in (record_rows, compare_rows):
        with pytest.raises(NotFiniteError) as caught:
            score(logits, [0] * 4, codes)
        assert caught.value.row == 2

"""Misses, ties and domination, from figures alone."""

from __future__ import annotations

from lqmf_runner.config import VerdictConfig
from lqmf_runner.verdict.ranking import Candidate, Measure, misses_of
from lqmf_runner.verdict.verdict import choose_model
from tests.support.runs.candidates import PLAIN, Q4


def test_a_bound_is_met_exactly_at_the_limit() -> None:
    assert misses_of(Q4, VerdictConfig(max_kld=0.02, min_top1=0.93, max_memory_mb=300)) == ()


def test_noise_of_a_difference_is_that_of_both() -> None:
    """1.96 × √(3² + 4²) = 9.8."""
    assert Measure(100, 3).ties_with(Measure(109.7, 4))
    assert not Measure(100, 3).ties_with(Measure(109.9, 4))


def test_models_that_lack_different_figures_do_not_beat_each_other() -> None:
    slow = Candidate("slow", {"memory_mb": Measure(300), "kld": Measure(0.1)})
    unweighed = Candidate("unweighed", {"tokens_per_s": Measure(100), "kld": Measure(0.1)})
    assert choose_model([slow, unweighed], PLAIN).pareto == ["slow", "unweighed"]

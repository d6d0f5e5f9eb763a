"""Which constraints and weights are refused."""

from __future__ import annotations

import math

import pytest

from lqmf_runner.config import VerdictConfig, WeightsConfig
from lqmf_runner.errors import UserInputError


@pytest.mark.parametrize(
    "values",
    [
        {"max_memory_mb": -1},
        {"min_top1": 1.2},
        {"max_kld": -0.1},
        {"max_perplexity": 0.5},
        {"max_kld": math.nan},
    ],
)
def test_bounds_that_can_never_be_met_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UserInputError, match="out of range"):
        VerdictConfig(**values)  # type: ignore[arg-type]


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(UserInputError, match=r"all verdict\.weights are 0"):
        WeightsConfig(0, 0, 0)

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


@pytest.mark.parametrize(
    "name", ["max_memory_mb", "max_size_mb", "max_load_time_s", "max_ttft_s", "min_tokens_per_s"]
)
def test_a_bound_of_0_is_refused_where_a_figure_is_never_0(name: str) -> None:
    with pytest.raises(UserInputError, match=f"verdict.{name}=0 is too small") as caught:
        VerdictConfig(**{name: 0.0})  # type: ignore[arg-type]
    assert caught.value.hint == "it must be more than 0"
    assert VerdictConfig(max_kld=0.0, min_success_rate=0.0).bounds  # type: ignore[call-arg]


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(UserInputError, match=r"all verdict\.weights are 0"):
        WeightsConfig(0, 0, 0)

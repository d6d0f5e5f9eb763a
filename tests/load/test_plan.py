"""Settings of a mode become loads."""

from __future__ import annotations

import pytest

from lqmf_runner.config import BenchmarkMode, SyntheticConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.load.synthetic import Length, Synthetic
from tests.support.engine.loads import PROMPTS


def test_settings_become_lengths() -> None:
    mode = BenchmarkMode(
        synthetic=SyntheticConfig(prompt_tokens=128, output_tokens=32, output_tokens_std=4.0)
    )
    plan = BenchmarkPlan(mode, PROMPTS)
    assert plan.synthetic == Synthetic(Length(128), Length(32, 4.0))
    mode = BenchmarkMode(synthetic=SyntheticConfig(prompt_tokens=128))
    assert BenchmarkPlan(mode, PROMPTS).synthetic == Synthetic(Length(128), Length(64))
    for wrong in (
        SyntheticConfig(output_tokens=3),
        SyntheticConfig(prompt_tokens=0),
        SyntheticConfig(prompt_tokens=5, output_tokens=0),
        SyntheticConfig(prompt_tokens=5, prompt_tokens_std=-1.0),
    ):
        with pytest.raises(UserInputError, match="synthetic"):
            BenchmarkPlan(BenchmarkMode(synthetic=wrong), PROMPTS)

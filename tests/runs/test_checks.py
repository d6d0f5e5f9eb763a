"""Settings of a benchmark or a comparison that do not go together are refused."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.runs.checks import check_benchmark, check_compare

from ..conftest import Compose


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ([], "nothing to compare"),
        (["models=[smollm2_gguf,smollm2_gguf]"], "names one twice"),
        (["models=[smollm2_gguf]", "runs=[x,y]"], "both given"),
        (["runs=[x,y]", "reference=smollm2_bf16"], "measures nothing, and reference=smollm2_bf16 has"),
        (["runs=[x,y]", "judge.model=openai"], "measures nothing, and judge.model=openai has"),
        (["runs=[x,y]", "mode.tasks=[arc_easy]"], "mode.tasks would change nothing"),
        (["runs=[x,y]", "mode.concurrency=[8]"], "mode.concurrency would change nothing"),
        (["models=[smollm2_gguf]", "verdict.max_kld=0.1"], "max_kld bounds what this run does not measure"),
        (["models=[smollm2_gguf]", "verdict.min_top1=0.9"], "min_top1 bounds"),
        (
            ["models=[smollm2_gguf]", "verdict.min_heuristic=0.9", "mode.heuristic=false"],
            "min_heuristic bounds",
        ),
        (["models=[smollm2_gguf]", "verdict.concurrency=5"], "not among"),
        (["models=[smollm2_gguf]"], "smollm2_gguf alone cannot be compared"),
        (
            ["mode.served=x", "runs=[y]", "reference=smollm2_bf16"],
            "measures nothing, and reference=smollm2_bf16 has",
        ),
        (["mode.served=x", "runs=[y]", "judge.model=openai"], "measures nothing, and judge.model=openai has"),
        (["mode.served=x", "runs=[y]", "mode.tasks=[arc_easy]"], "mode.tasks would change nothing"),
        (["mode.served=x", "runs=[y]", "verdict.weights.speed=3"], "verdict.weights would change nothing"),
    ],
)
def test_what_cannot_be_judged_is_refused(compose_config: Compose, settings: list[str], what: str) -> None:
    config = compose_config("mode=compare", *settings)
    with pytest.raises(UserInputError, match=what):
        check_compare(config)


def test_what_was_served_is_judged_with_nothing_set(compose_config: Compose) -> None:
    check_compare(compose_config("mode=compare", "mode.served=x", "runs=[y]", "mode.promote=champion"))


def test_finished_runs_are_judged_by_other_limits(compose_config: Compose) -> None:
    own = ("mode.allow_different=true", "mode.promote=champion", "verdict.max_memory_mb=500")
    check_compare(compose_config("mode=compare", "runs=[x,y]", *own))


def test_a_judge_compares_with_a_model_that_runs(compose_config: Compose) -> None:
    against = compose_config("mode=benchmark", "judge.model=openai", "judge.against=x")
    with pytest.raises(UserInputError, match=r"judge\.against=x does not run here"):
        check_benchmark(against)

"""How sure the figures are that a verdict is drawn from."""

from __future__ import annotations

import msgspec
import pytest

from lqmf_runner.config import VerdictConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.evaluation.heuristic import heuristic_se
from lqmf_runner.load.metrics import load_result
from lqmf_runner.results.quality import HeuristicScore, Quality
from lqmf_runner.results.schema import Estimate, LoadResult, ModelResult, RequestRecord, Shape
from lqmf_runner.results.verdict import Difference
from lqmf_runner.verdict.candidates import candidate, check_measured, verdict_concurrency
from lqmf_runner.verdict.differences import differences
from lqmf_runner.verdict.verdict import draw_verdict


def measured(speed: float, *, users: int = 1, spread: float | None = None, good: int = 16) -> LoadResult:
    """16 requests under a closed loop; with a `spread`, repeated, and that is the half width of its interval."""
    repeats = {} if spread is None else {"output_tokens_per_s": Estimate(mean=speed, ci95=spread, n=3)}
    return msgspec.structs.replace(
        load_result(Shape("closed", concurrency=users), [], 1.0),
        requests=16, succeeded=good, success_rate=good / 16, output_tokens_per_s=speed, repeats=repeats,
    )  # fmt: skip


def between(one: ModelResult, other: ModelResult) -> dict[str, Difference]:
    return {found.metric: found for found in differences(candidate(one, 1), candidate(other, 1))}


def model(name: str, *loads: LoadResult, **quality: object) -> ModelResult:
    return ModelResult(name=name, loads=list(loads), quality=msgspec.structs.replace(Quality(), **quality))


def test_repeats_of_one_run_do_not_make_two_runs_differ() -> None:
    """A machine drifts from run to run by more than repeats within one show."""
    slow, fast = model("a", measured(97, spread=0.2)), model("b", measured(100, spread=0.2))
    assert not between(slow, fast)["tokens_per_s"].beyond_noise
    assert between(model("a", measured(80, spread=0.2)), fast)["tokens_per_s"].beyond_noise
    together = [candidate(m, 1, interleaved=True).measures["tokens_per_s"] for m in (slow, fast)]
    assert not together[0].ties_with(together[1])


def test_one_failed_request_of_sixteen_is_not_a_difference() -> None:
    whole = model("a", measured(100))
    assert not between(whole, model("b", measured(100, good=15)))["success_rate"].beyond_noise
    assert between(whole, model("b", measured(100, good=8)))["success_rate"].beyond_noise


def test_perplexities_on_one_text_are_compared_by_their_ratio_to_the_reference() -> None:
    """Most of a perplexity's error is how hard the text is, which both have in common."""
    one = model("a", perplexity=20.0, perplexity_se=1.5, perplexity_ratio=1.0, perplexity_ratio_se=0.005)
    other = model("b", perplexity=22.0, perplexity_se=1.6, perplexity_ratio=1.1, perplexity_ratio_se=0.01)
    assert between(one, other)["perplexity"].beyond_noise


def test_the_error_of_the_heuristic_is_that_of_its_prompts() -> None:
    def record(prompt: str, score: float) -> RequestRecord:
        return RequestRecord(
            model="m", load="c1", prompt_id=prompt, turn=0, user=0, heuristic=HeuristicScore(score=score)
        )

    records = [record("p", 0.5), record("p", 0.5), record("q", 0.7), record("q", 0.9)]  # means 0.5 and 0.8
    assert heuristic_se(records) == pytest.approx(0.3 / 2)
    assert heuristic_se(records[:2]) is None
    one = model("a", heuristic=HeuristicScore(score=0.912), heuristic_se=0.02)
    other = model("b", heuristic=HeuristicScore(score=0.911), heuristic_se=0.02)
    assert not between(one, other)["heuristic"].beyond_noise


def test_speed_is_taken_from_a_load_that_all_models_had() -> None:
    models = [model("a", measured(10, users=1), measured(20, users=4)), model("b", measured(20, users=4))]
    assert verdict_concurrency(models, VerdictConfig()) == 4
    assert (
        verdict_concurrency([model("a", measured(10)), model("b", measured(9, users=2))], VerdictConfig())
        == 1
    )
    assert verdict_concurrency([model("a")], VerdictConfig()) is None
    verdict = draw_verdict(models, VerdictConfig())
    assert verdict is not None
    assert verdict.concurrency == 4


def test_a_load_that_no_run_has_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"verdict\.concurrency=16 is a load that none") as caught:
        check_measured([model("a", measured(10))], VerdictConfig(concurrency=16))
    assert caught.value.hint == "they have: 1"

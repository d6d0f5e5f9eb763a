"""The reasons and cautions of a verdict, word by word."""

from __future__ import annotations

from dataclasses import replace

from lqmf_runner.config import VerdictConfig, WeightsConfig
from lqmf_runner.verdict.ranking import Candidate, Measure
from lqmf_runner.verdict.verdict import choose_model
from tests.support.runs.candidates import BF16, NF4, PLAIN, Q4, candidate


def test_the_reasons_are_in_plain_words() -> None:
    said = choose_model([NF4, BF16, Q4], PLAIN, concurrency=1).sentences
    assert said[0] == "It is the fastest at one request at a time (14 % faster than nf4)."
    assert said[1] == (
        "nf4 is 2.1 × smaller in memory, 12 % slower and farther from the reference (KLD 0.2 against 0.02, "
        "top-1 77.0 %): choose q4 unless you need the memory."
    )
    assert said[2].startswith(
        "bf16 is closer to the reference (KLD 0 against 0.02, top-1 100.0 %), 2.0 × larger"
    )
    assert said[2].endswith("choose q4 unless you need the fidelity.")


def test_limits_that_contradict_each_other_are_named_with_who_meets_them() -> None:
    config = VerdictConfig(min_tokens_per_s=150, max_memory_mb=200, max_kld=0.01, max_load_time_s=10)
    timed = [replace(c, measures={**c.measures, "load_time_s": Measure(1)}) for c in (NF4, BF16, Q4)]
    assert choose_model(timed, config).sentences[0] == (
        "Each limit is met by some model, but no model meets all of them: memory at most 200 MB by nf4 alone, speed "
        "at least 150 tok/s by q4 alone, KLD at most 0.01 by bf16 alone."
    )


def test_a_limit_that_no_model_meets_is_named_with_the_best_there_is() -> None:
    said = choose_model([NF4, BF16, Q4], VerdictConfig(max_memory_mb=100, min_top1=0.9)).sentences
    assert said[0] == "No model meets memory at most 100 MB: the best is 140 MB, of nf4."
    said = choose_model([NF4, Q4], VerdictConfig(min_tokens_per_s=200)).sentences
    assert said[0] == "No model meets speed at least 200 tok/s: the best is 160.0 tok/s, of q4."
    alone = choose_model([NF4], VerdictConfig(max_memory_mb=100)).sentences
    assert alone == ["nf4: memory 140 MB (at most 100 MB)."]


def test_a_limit_within_the_noise_is_said() -> None:
    verdict = choose_model([candidate("a", 100, 100, 0.099, noise=0.02)], VerdictConfig(max_kld=0.1))
    assert verdict.cautions == ["a meets max_kld by less than the noise: KLD 0.099 ± 0.0039."]


def test_a_model_that_crosses_over_is_named_with_its_concurrency() -> None:
    fast = replace(Q4, speeds={1: Measure(160), 4: Measure(200), 8: Measure(220)})
    wide = replace(NF4, speeds={1: Measure(140), 4: Measure(190), 8: Measure(310)})
    said = choose_model([fast, wide], PLAIN, concurrency=1).sentences
    assert said[-1] == "nf4 is faster than q4 from 8 concurrent requests on (310 against 220 tok/s)."
    never = replace(NF4, speeds={1: Measure(140), 8: Measure(210)})
    assert not any(" on (" in s for s in choose_model([fast, never], PLAIN, concurrency=1).sentences)


def test_without_fidelity_the_verdict_says_so() -> None:
    verdict = choose_model([candidate("a", 100, 100, None), candidate("b", 50, 100, None)], PLAIN)
    assert verdict.winner == "a"
    assert verdict.cautions[0].startswith("Fidelity was not measured")
    broken = choose_model([candidate("a", 100, 100, None, heuristic=0.1)], PLAIN)
    assert "look broken" in broken.cautions[1]


def test_a_dimension_that_was_not_measured_is_named() -> None:
    slow = Candidate("a", {"memory_mb": Measure(100), "kld": Measure(0.1)})
    assert choose_model([slow], PLAIN).cautions == [
        "Speed was not measured, so the ranking ignores it: give mode.concurrency a number."
    ]
    assert choose_model([slow], VerdictConfig(weights=WeightsConfig(speed=0))).cautions == []


def test_limits_are_written_as_they_were_given() -> None:
    verdict = choose_model([Q4], VerdictConfig(max_kld=0.00002, min_top1=0.9999))
    assert verdict.sentences[0] == "q4: KLD 0.02 (at most 0.00002) and top-1 93.0 % (at least 99.99 %)."

"""What is said of versions that shared the requests for a name."""

from __future__ import annotations

import random

import msgspec

from lqmf_runner.results.served import FAILED, REFUSED, ServedRecord
from lqmf_runner.verdict.served.judging import judge_served
from tests.support.server.served import SHARES, served


def records(after: int = 200, *, session_of: int = 1, failed: int = 0, **slower: float) -> list[ServedRecord]:
    found = served(random.Random(1), "x@3", 200, session_of=session_of)
    found += served(random.Random(2), "x@4", after - failed, session_of=session_of, **slower)
    bad = served(random.Random(3), "x@4", failed, outcome=FAILED)
    return [*found, *(msgspec.structs.replace(record, unit=f"bad {n}") for n, record in enumerate(bad))]


def test_one_that_is_faster_wins() -> None:
    verdict = judge_served(records(gap_s=0.006, ttft_s=0.02), SHARES)
    assert verdict.winner == "x@4"
    assert verdict.headline.startswith("run x@4: beside x@3, TTFT, mean ")
    assert ", ITL, mean " in verdict.headline
    assert verdict.ties == []
    assert [model.name for model in verdict.models] == ["x@4", "x@3"]
    speed = next(d for d in verdict.differences if d.metric == "itl_mean_s")
    assert (speed.baseline, speed.model, speed.better) == ("x@3", "x@4", True)
    assert "95 %: -4" in speed.text


def test_one_that_is_slower_does_not() -> None:
    verdict = judge_served(records(gap_s=0.02), SHARES)
    assert verdict.winner == "x@3"
    assert verdict.headline.startswith("stay with x@3: x@4 is worse: ITL, mean")


def test_two_that_do_not_differ_are_a_tie() -> None:
    verdict = judge_served(records(), SHARES)
    assert (verdict.winner, verdict.ties) == ("x@3", ["x@4"])
    assert verdict.headline == "stay with x@3: x@4 does not differ from it by more than noise"
    assert not any(difference.beyond_noise for difference in verdict.differences)


def test_faster_but_failing_is_for_people_to_decide() -> None:
    verdict = judge_served(records(gap_s=0.006, failed=60), SHARES)
    assert verdict.winner is None
    assert "x@4 is better and worse than x@3: ITL" in verdict.headline
    assert "but failed requests 0.00 % → 30.00 %" in verdict.headline


def test_too_few_requests_are_said_to_be_so() -> None:
    verdict = judge_served(records(after=12, gap_s=0.001), SHARES)
    assert verdict.winner is None
    assert verdict.headline == "too few requests to judge x@4: x@4 answered 12 of the 30 that are needed"
    assert verdict.differences == []
    nothing = judge_served(served(random.Random(1), "x@3", 200), SHARES)
    assert "x@4 answered 0 of the 30" in nothing.headline


def test_a_few_answers_among_many_failures_do_not_win() -> None:
    """Three quick answers are no figure, and the failures are."""
    few = served(random.Random(4), "x@4", 3, gap_s=0.0001, ttft_s=0.001)
    found = [*records(after=197, failed=197), *few]
    verdict = judge_served(found, SHARES)
    assert verdict.winner == "x@3"
    assert {difference.metric for difference in verdict.differences} == {"failed_share", "cancelled_share"}


def test_refused_requests_are_not_answered() -> None:
    found = [msgspec.structs.replace(record, outcome=REFUSED) for record in records()]
    verdict = judge_served(found, SHARES)
    assert verdict.winner is None
    assert verdict.headline == "too few requests to judge x@4: x@3 answered 0 of the 30 that are needed"


def test_many_requests_of_few_sessions_are_few() -> None:
    verdict = judge_served(records(session_of=20, gap_s=0.001), SHARES)
    assert "x@3 answered 200, of 10 sessions or keys, and 30 of those are needed" in verdict.headline
    assert "x@4 had 200 requests of 10 sessions or keys: 200 ok; answers ended by stop 100 %" in (
        verdict.sentences
    )


def test_times_under_unequal_load_do_not_decide() -> None:
    found = [
        msgspec.structs.replace(record, at_once=4 if record.version == "x@3" else 1)
        for record in records(gap_s=0.006)
    ]
    verdict = judge_served(found, SHARES)
    assert verdict.winner == "x@3"
    itl = next(d for d in verdict.differences if d.metric == "itl_mean_s")
    assert (itl.beyond_noise, itl.better) == (True, None)
    assert "it does not decide" in itl.text
    assert verdict.cautions[0].startswith("x@3 answered 4.0 requests at once on average and x@4 1.0")


def test_times_of_a_few_minutes_do_not_decide() -> None:
    """Another program slows the worker of one version for three minutes; its requests were chosen by chance."""
    found = [msgspec.structs.replace(record, time=record.time / 10) for record in records(gap_s=0.02)]
    verdict = judge_served(found, SHARES)
    assert verdict.winner is None
    assert verdict.headline == (
        "too short a time to judge x@4: requests in 4 of the 10 minutes that are needed"
    )
    failing = [msgspec.structs.replace(r, time=r.time / 10) for r in records(failed=60)]
    assert judge_served(failing, SHARES).winner == "x@3", "failures need no ten minutes"


def test_what_slows_one_version_for_some_minutes_is_noise() -> None:
    """Of 33 minutes x@4 is three times slower in five."""
    slowed = [
        msgspec.structs.replace(r, gaps_s=3 * r.gaps_s, ttft_s=3 * r.ttft_s)
        if r.version == "x@4" and 600 < r.time - 1000 < 900
        else r
        for r in records()
    ]
    verdict = judge_served(slowed, SHARES)
    assert verdict.winner == "x@3"
    assert verdict.ties == ["x@4"], verdict.headline


def test_a_split_that_is_not_what_it_should_be_is_pointed_out() -> None:
    verdict = judge_served(records(after=100), SHARES)
    assert sum("some requests are not counted" in text for text in verdict.cautions) == 2
    assert verdict.doubts == verdict.cautions
    assert judge_served(records(after=190), SHARES).cautions == []


def test_of_three_the_best_wins_and_the_like_of_it_ties() -> None:
    shares = {"x@3": 0.4, "x@4": 0.3, "x@5": 0.3}
    found = [
        *records(gap_s=0.006),
        *served(random.Random(5), "x@5", 200, gap_s=0.003),
    ]
    assert judge_served(found, shares).winner == "x@5"
    alike = [*records(gap_s=0.006), *served(random.Random(6), "x@5", 200, gap_s=0.006)]
    verdict = judge_served(alike, shares)
    assert (verdict.winner, verdict.ties) == ("x@4", ["x@5"])


def test_who_had_too_few_requests_is_not_beaten() -> None:
    shares = {"x@3": 0.5, "x@4": 0.4, "x@5": 0.1}
    found = [*records(gap_s=0.006), *served(random.Random(5), "x@5", 16)]
    verdict = judge_served(found, shares)
    assert (verdict.winner, verdict.ties) == ("x@4", ["x@5"])
    worse = [*records(gap_s=0.006), *served(random.Random(5), "x@5", 200, gap_s=0.02)]
    assert judge_served(worse, shares).ties == []

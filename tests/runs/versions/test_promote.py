"""When a verdict gives its winner an alias, and what it says where it does not."""

from __future__ import annotations

import msgspec

from lqmf_runner.models.registered import WeightsVersion
from lqmf_runner.results.schema import ModelResult, Results
from lqmf_runner.results.verdict import ModelVerdict, Verdict
from lqmf_runner.runs.versions.promote import Decision, decide

from ...support.runs.sample import sample_model, sample_results
from ...support.runs.versions import version

BEFORE, AFTER = version("x", 3, "champion"), version("x", 4)


def model(name: str, digest: str, error: str | None = None) -> ModelResult:
    found = sample_model(name)
    found.version, found.error = digest, error
    return found


def verdict(winner: str | None, *models: ModelVerdict, ties: list[str] | None = None) -> Verdict:
    return Verdict(winner=winner, headline="run it", ties=ties or [], models=list(models))


def decided(
    *models: ModelResult,
    drawn: Verdict,
    versions: tuple[WeightsVersion, ...] = (BEFORE, AFTER),
    promote: str = "champion",
) -> Decision:
    results: Results = sample_results(*models)
    results.verdict = drawn
    return decide(results, versions, promote)


OLD, NEW = model("x@3", "d3"), model("x@4", "d4")
OLD_JUDGED = ModelVerdict(name="x@3", qualifies=True, rank=2, score=0.8)
NEW_JUDGED = ModelVerdict(name="x@4", qualifies=True, rank=1, score=1.0)


def test_a_winner_beyond_noise_is_promoted_where_the_alias_still_is():
    change = decided(OLD, NEW, drawn=verdict("x@4", NEW_JUDGED, OLD_JUDGED)).change
    assert change is not None
    assert (change.name, change.alias, change.number, change.expected) == ("x", "champion", 4, 3)


def test_a_tie_promotes_nobody():
    decision = decided(OLD, NEW, drawn=verdict("x@4", NEW_JUDGED, OLD_JUDGED, ties=["x@3"]))
    assert decision == Decision("x@4 does not beat x@3 by more than noise")


def test_who_is_not_measured_is_not_beaten():
    decision = decided(NEW, drawn=verdict("x@4", NEW_JUDGED))
    assert decision.change is None
    assert "was not measured beside x@4; add x@champion to models" in decision.text
    failed = model("x@3", "d3", error="EngineLostError: gone")
    assert "could not be measured" in decided(failed, NEW, drawn=verdict("x@4", NEW_JUDGED)).text


def test_a_champion_that_does_not_qualify_is_replaced():
    judged = ModelVerdict(name="x@3", qualifies=False, rank=2, score=0.5, why="KLD 0.3 (at most 0.1)")
    decision = decided(OLD, NEW, drawn=verdict("x@4", NEW_JUDGED, judged))
    assert decision.change is not None
    assert "KLD 0.3" in decision.text


def test_the_first_champion_needs_nobody_to_beat():
    decision = decided(NEW, drawn=verdict("x@4", NEW_JUDGED), versions=(version("x", 4),))
    assert decision.change is not None
    assert decision.change.expected is None


def test_no_winner_and_the_champion_itself_change_nothing():
    assert decided(OLD, NEW, drawn=verdict(None)).change is None
    again = decided(OLD, NEW, drawn=verdict("x@3", OLD_JUDGED, NEW_JUDGED))
    assert again == Decision("x@3, which is champion, is the winner again")


def test_a_verdict_in_doubt_moves_nothing():
    drawn = msgspec.structs.replace(verdict("x@4", NEW_JUDGED, OLD_JUDGED), doubts=["requests are missing"])
    assert decided(OLD, NEW, drawn=drawn) == Decision("requests are missing")


def test_a_winner_of_any_name_becomes_a_version_of_another():
    chat = version("chat", 1, "champion", digest="d3")
    versions = (chat, BEFORE, version("y", 7, digest="d4"))
    models = (OLD, model("y", "d4"))
    drawn = verdict("y", ModelVerdict(name="y", qualifies=True, rank=1, score=1.0), OLD_JUDGED)
    change = decided(*models, drawn=drawn, versions=versions, promote="chat@champion").change
    assert change is not None
    assert (change.name, change.number, change.source, change.expected) == ("chat", None, "y@7", 1)

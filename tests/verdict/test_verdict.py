"""The verdict, on cases that can be worked out by hand, and what must hold for any models and constraints."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lqmf_runner.config import VerdictConfig, WeightsConfig
from lqmf_runner.verdict.ranking import Candidate, misses_of, rank
from lqmf_runner.verdict.verdict import choose_model
from tests.support.runs.candidates import BF16, DAMAGED, NF4, PLAIN, Q4, candidate


def test_ranking_of_a_hand_worked_case() -> None:
    """In powers of two: q4 -0.2 + 7.32 - 8.23 = -1.11; nf4 -2 + 7.13 - 7.13 = -2; bf16 0 + 6.32 - 9.23 = -2.91."""
    verdict = choose_model([NF4, BF16, Q4], PLAIN, concurrency=1, reference="bf16")
    assert verdict.winner == "q4"
    assert [(m.name, m.rank) for m in verdict.models] == [("q4", 1), ("nf4", 2), ("bf16", 3)]
    scores = [m.score for m in verdict.models]
    by_hand = [(160 / 300 * 2**-0.2), (140 / 140 * 2**-2.0), (80 / 600)]
    assert scores == pytest.approx([(s / by_hand[0]) ** (1 / 3) for s in by_hand])
    assert verdict.pareto == ["q4", "nf4", "bf16"]  # each is the best in something


def test_constraints_decide_who_qualifies() -> None:
    verdict = choose_model([NF4, BF16, Q4], VerdictConfig(max_kld=0.1, max_memory_mb=500), concurrency=1)
    assert verdict.winner == "q4"
    assert [m.name for m in verdict.models if m.qualifies] == ["q4"]
    assert verdict.sentences[0] == "It alone meets memory at most 500 MB and KLD at most 0.1."
    assert any(s.startswith("nf4 does not qualify: KLD 0.2 (at most 0.1)") for s in verdict.sentences)
    assert verdict.constraints == {"max_memory_mb": 500, "max_kld": 0.1}


def test_none_qualifies_names_the_nearest_by_relative_shortfall() -> None:
    """bf16 lacks 50 % of the speed and has 2 × the memory (100 %); nf4 has 20 × the KLD; q4 needs 50 % less memory."""
    config = VerdictConfig(min_tokens_per_s=150, max_memory_mb=200, max_kld=0.01)
    verdict = choose_model([NF4, BF16, Q4], config, concurrency=1)
    assert verdict.winner is None
    assert verdict.nearest == "q4"
    assert verdict.headline == "none qualifies; nearest is q4"
    assert verdict.sentences[1] == "q4: memory 300 MB (at most 200 MB) and KLD 0.02 (at most 0.01)."
    shortfalls = {m.constraint: m.shortfall for m in verdict.models[0].misses}
    assert shortfalls == {"max_memory_mb": pytest.approx(0.5), "max_kld": pytest.approx(1.0)}
    assert [m.name for m in verdict.models] == ["q4", "bf16", "nf4"]


def test_a_damaged_model_is_ranked_last() -> None:
    """It is the fastest and among the smallest, and its answers are worthless."""
    verdict = choose_model([DAMAGED, NF4, BF16, Q4], PLAIN)
    assert [m.name for m in verdict.models][-1] == "damaged"
    assert "damaged" in verdict.pareto  # honestly: nothing else is as fast
    judged = choose_model([DAMAGED, NF4, BF16, Q4], VerdictConfig(max_kld=0.5))
    assert not judged.models[-1].qualifies


def test_a_difference_within_the_noise_is_a_tie() -> None:
    one, other = (
        candidate(name, speed, 100, 0.05, noise=0.03) for name, speed in (("a", 104.0), ("b", 100.0))
    )
    verdict = choose_model([other, one], PLAIN)
    assert (verdict.winner, verdict.ties) == ("a", ["b"])
    assert verdict.headline == "a, tied with b"
    assert "b does not differ from a by more than the noise." in verdict.sentences
    assert not any("fast" in s for s in verdict.sentences)
    exact = choose_model(
        [replace(other, measures=candidate("b", 100, 100, 0.05).measures), candidate("a", 104, 100, 0.05)],
        PLAIN,
    )
    assert exact.ties == []
    assert "It is the fastest (4 % faster than b)." in exact.sentences


def test_weights_turn_the_ranking() -> None:
    config = VerdictConfig(weights=WeightsConfig(speed=0, memory=1, fidelity=0))
    assert choose_model([Q4, NF4, BF16], config).winner == "nf4"
    assert choose_model([Q4, NF4, BF16], VerdictConfig(weights=WeightsConfig(0, 0, 1))).winner == "bf16"


def test_failed_models_are_named_and_the_rest_is_judged() -> None:
    verdict = choose_model([Candidate("broken", error="does not fit"), Q4, NF4], PLAIN)
    assert verdict.winner == "q4"
    assert verdict.models[-1].error == "does not fit"
    assert verdict.models[-1].rank is None
    assert verdict.cautions == ["broken failed and is not judged: does not fit"]
    assert choose_model([Candidate("broken", error="x")], PLAIN).headline == "none: no model was measured"


def test_a_model_without_a_figure_is_not_ranked_and_cannot_win() -> None:
    unknown = candidate("unknown", 1000, 10, None)
    verdict = choose_model([unknown, Q4], PLAIN)
    assert verdict.winner == "q4"
    assert verdict.models[1].rank is None
    assert "unknown is not ranked: KLD not measured." in verdict.cautions
    assert misses_of(unknown, VerdictConfig(max_kld=0.1))[0].text == "KLD was not measured (at most 0.1)"


positive = st.floats(min_value=1e-3, max_value=1e6)
maybe = st.none() | positive
candidates = st.lists(
    st.builds(
        candidate, st.just(""), positive, positive, st.floats(0, 50), noise=st.sampled_from([0.0, 0.02])
    ),
    min_size=1,
    max_size=6,
).map(lambda made: [replace(one, name=f"m{number}") for number, one in enumerate(made)])
weights = st.builds(WeightsConfig, *[st.sampled_from([0.0, 0.5, 1.0, 3.0])] * 2, st.sampled_from([0.5, 1.0]))
configs = st.builds(
    VerdictConfig,
    max_memory_mb=maybe,
    min_tokens_per_s=maybe,
    max_kld=st.none() | st.floats(0, 50),
    weights=weights,
)


@given(candidates, configs)
def test_a_dominated_model_never_wins_nor_stands_on_the_front(
    made: list[Candidate], config: VerdictConfig
) -> None:
    verdict = choose_model(made, config)
    qualifying = {m.name for m in verdict.models if m.qualifies}
    assert (verdict.winner is not None) == bool(qualifying)

    def figures(c: Candidate) -> tuple[float, ...]:
        return c.measures["tokens_per_s"].value, -c.measures["memory_mb"].value, -c.measures["kld"].value

    for one in made:
        better = [
            o for o in made if figures(o) != figures(one) and all(map(float.__ge__, figures(o), figures(one)))
        ]
        if better:
            assert one.name not in verdict.pareto
        if any(o.name in qualifying for o in better):
            assert one.name != verdict.winner


@given(candidates, configs, configs)
def test_adding_constraints_never_enlarges_the_set_that_qualifies(
    made: list[Candidate], config: VerdictConfig, more: VerdictConfig
) -> None:
    both = replace(
        config, **{name: bound for name, bound in more.bounds.items() if name not in config.bounds}
    )
    few = {row.name for row in rank(made, both) if row.qualifies}
    assert few <= {row.name for row in rank(made, config) if row.qualifies}


@given(candidates, configs)
def test_every_model_is_judged_once_whatever_the_figures(
    made: list[Candidate], config: VerdictConfig
) -> None:
    verdict = choose_model(made, config, concurrency=1, reference="r")
    assert sorted(m.name for m in verdict.models) == sorted(c.name for c in made)
    assert all(m.score is None or 0 <= m.score <= 1 for m in verdict.models)
    assert verdict.pareto


def test_a_machine_that_was_busy_with_other_things_is_a_caution() -> None:
    busy = dataclasses.replace(Q4, other_cores=0.8)
    said = choose_model([busy, NF4], PLAIN).cautions
    assert (
        f"Other programs used 0.8 cores while {busy.name} was measured: its speed may be too low." in said[0]
    )
    assert choose_model([dataclasses.replace(Q4, other_cores=0.2), NF4], PLAIN).cautions == []

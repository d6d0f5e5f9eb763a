"""The wording of a verdict: a headline, the reasons, and cautions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..config import VerdictConfig
from ..results.broken import BUSY_CORES, LEAST_HEURISTIC
from ..results.metrics import METRICS, NOISE_Z, Metric, bounds
from ..results.schema import ENDED_BY_USER
from .ranking import DIMENSIONS, ENOUGH_REQUESTS, Candidate, Measure, Ranked, missing

OTHERS = 5  # number of other models that get a sentence
_TO_MEASURE = {
    "fidelity": ": give reference=<unquantized model>",
    "speed": ": give mode.concurrency a number",
    "memory": "",
}
_MULTIPLE = 1.5  # from this ratio on, "1.5 ×" instead of "50 %"


@dataclass(frozen=True)
class Case:
    """What the sentences are made from: the models in order, the winner, and the configuration.

    `sources` has the key of the figure that stands for each dimension.
    """

    rows: Sequence[Ranked]
    winner: Ranked | None
    ties: Sequence[Ranked]
    failed: Sequence[Candidate]
    config: VerdictConfig
    sources: Mapping[str, str]
    concurrency: int | None
    reference: str | None

    @property
    def nearest(self) -> Ranked | None:
        """If none qualifies, the model with the smallest miss. None if it is broken or nothing bound was measured."""
        if not self.rows or self.rows[0].qualifies or self.rows[0].shortfall == float("inf"):
            return None
        return self.rows[0] if self.rows[0].candidate.broken is None else None

    @property
    def load(self) -> str:
        """The load that speed is taken from: " at 4 concurrent requests"."""
        return "" if self.concurrency is None else f" at {_requests(self.concurrency)}"

    @property
    def limits(self) -> list[tuple[str, Metric, float]]:
        """The bounds that are given: setting, metric and value of each."""
        metrics = bounds()
        return [(name, metrics[name], limit) for name, limit in self.config.bounds.items()]

    @property
    def bounds(self) -> str:
        """All constraints in words."""
        return _join([metric.wanted(limit) for _, metric, limit in self.limits])


def headline(case: Case) -> str:
    """The answer in one line."""
    if case.winner is not None:
        tied = f", tied with {_join([row.name for row in case.ties])}" if case.ties else ""
        return case.winner.name + tied
    if not case.rows:
        return "none: no model was measured"
    if case.rows[0].qualifies:
        return "none: no model has all the figures that the ranking is made of"
    if case.nearest is None:
        return "none qualifies"
    return f"none qualifies; nearest is {case.nearest.name}"


def sentences(case: Case) -> list[str]:
    """The reasons, the most important first."""
    if case.winner is None:
        missing_most = [f"{row.name}: {_misses(row)}." for row in case.rows[:OTHERS] if not row.qualifies]
        return [*_why_none(case), *missing_most]
    winner = case.winner
    others = [row for row in case.rows if row is not winner]
    return [
        *_why_it_qualifies(case),
        *_why_it_leads(case, winner, others),
        *(_against(case, winner, row) for row in others[:OTHERS]),
        *(sentence for row in others if (sentence := _crossover(case, winner, row))),
    ]


def cautions(case: Case) -> list[str]:
    """What failed, was not measured, or is within noise."""
    said = [
        f"{failed.name} was interrupted and is not judged"
        if failed.error == ENDED_BY_USER
        else f"{failed.name} failed and is not judged: {failed.error}"
        for failed in case.failed
    ]
    said += [
        _unknown(case, name)
        for name in DIMENSIONS
        if case.rows and name not in case.sources and getattr(case.config.weights, name) > 0
    ]
    said += _too_few(case)
    for row in case.rows:
        said += _cautions_of(case, row)
    return said


def _unknown(case: Case, dimension: str) -> str:
    if dimension == "fidelity" and any(row.candidate.uncounted for row in case.rows):
        return "Fidelity counts for no model, so the ranking ignores it."
    name = dimension.capitalize()
    return f"{name} was not measured, so the ranking ignores it{_TO_MEASURE[dimension]}."


def _too_few(case: Case) -> list[str]:
    """Loads that ran once, and too short to tell small differences."""
    counts = [count for row in case.rows if (count := row.candidate.requests) and count < ENOUGH_REQUESTS]
    if not counts or "speed" not in case.sources:
        return []
    return [
        f"Speed comes from one run of {_counted(min(counts), 'request')} per model, which shows only large "
        f"differences: give mode.requests={ENOUGH_REQUESTS} or more, or mode.repeats=3."
    ]


def _cautions_of(case: Case, row: Ranked) -> list[str]:
    measures, said = row.candidate.measures, []
    lacking = missing(row.candidate, case.config.weights, case.sources)
    if row.candidate.broken:
        said.append(f"{row.name} is {row.candidate.broken}. Its files or settings are wrong.")
    if row.candidate.uncounted:
        ranked = "" if row.score is not None or row.candidate.broken else ", so it is not ranked"
        said.append(f"The fidelity of {row.name} does not count: {row.candidate.uncounted}{ranked}.")
    elif lacking:
        said.append(f"{row.name} is not ranked: {_join(lacking)} not measured.")
    if "speed" in case.sources and (row.candidate.other_cores or 0.0) >= BUSY_CORES:
        said.append(
            f"Other programs used {row.candidate.other_cores:.1f} cores while {row.name} was measured: its speed may "
            "be too low. Repeat it on a quiet machine."
        )
    answered = measures.get("success_rate")
    if answered is not None and answered.value < 1:
        said.append(
            f"{row.name} answered only {METRICS['success_rate'].write(answered.value)} of its requests{case.load}."
        )
    heuristic = measures.get("heuristic")
    if heuristic is not None and heuristic.value < LEAST_HEURISTIC:
        said.append(f"The answers of {row.name} look broken: heuristic quality {heuristic.value:.2f}.")
    for name, metric, limit in case.limits:
        measure = measures.get(metric.key)
        if measure is not None and measure.error and measure.ties_with(Measure(limit)):
            met = "misses" if any(miss.constraint == name for miss in row.misses) else "meets"
            said.append(
                f"{row.name} {met} {name} by less than the noise: {metric.label} {metric.write(measure.value)} ± "
                f"{metric.write(NOISE_Z * measure.error)}."
            )
    return said


def _why_it_qualifies(case: Case) -> list[str]:
    if not case.config.bounds:
        return []
    good = sum(not row.misses for row in case.rows)
    if len(case.rows) == 1:
        return [f"It meets {case.bounds}."]
    if good == 1:
        return [f"It alone meets {case.bounds}."]
    return [f"{good} of {len(case.rows)} models meet {case.bounds}."]


def _why_none(case: Case) -> list[str]:
    """Why no model qualifies: the limits that none meets, with the best value; otherwise, that none meets all at
    once.
    """
    if len(case.rows) < 2 or case.rows[0].qualifies:
        return []
    beyond, met = [], []
    for name, metric, limit in case.limits:
        sound = [row for row in case.rows if row.candidate.broken is None]
        good = [row.name for row in sound if all(miss.constraint != name for miss in row.misses)]
        values = {row.name: m.value for row in sound if (m := row.candidate.measures.get(metric.key))}
        if good:
            if len(good) < len(sound):
                met.append(f"{metric.wanted(limit)} by {_join(good)} alone")
        elif values:
            best = min(values, key=lambda model: metric.rank(values[model]))
            beyond.append(
                f"No model meets {metric.wanted(limit)}: the best is {metric.write(values[best])}, of {best}."
            )
    if beyond or not met:
        return beyond
    return [f"Each limit is met by some model, but no model meets all of them: {', '.join(met)}."]


def _why_it_leads(case: Case, winner: Ranked, others: Sequence[Ranked]) -> list[str]:
    """What the winner is best at among the measured dimensions; otherwise, that the weighted mean decided."""
    if not others:
        return ["It is the only model that was measured."]
    others = [row for row in others if row.candidate.broken is None]
    if not others:
        return ["It is the only model that is not broken."]
    best = [
        phrase
        for name in DIMENSIONS
        if name in case.sources and (phrase := _superlative(case, name, winner, others))
    ]
    if best:
        return [f"It is {_join(best)}."]
    weights = [
        f"{name} {getattr(case.config.weights, name):g}" for name in DIMENSIONS if name in case.sources
    ]
    return [f"It has the best balance at the weights {', '.join(weights)}."]


def _superlative(case: Case, dimension: str, winner: Ranked, others: Sequence[Ranked]) -> str | None:
    """ "the fastest at 1 request at a time (1.4 × b)" if it is, by more than the noise."""
    metric = METRICS[case.sources[dimension]]
    rivals = [row for row in others if metric.key in row.candidate.measures]
    mine = winner.candidate.measures.get(metric.key)
    if mine is None or not rivals:
        return None
    second = max(rivals, key=lambda row: row.figures[dimension])
    its = second.candidate.measures[metric.key]
    if winner.figures[dimension] < second.figures[dimension] or mine.ties_with(its):
        return None
    if dimension == "fidelity":
        return f"the closest to the reference ({_both(metric, mine, its)} of {second.name})"
    if dimension == "speed":
        return f"the fastest{case.load} ({_more(mine.value, its.value)} faster than {second.name})"
    return f"the smallest in memory ({_less(mine.value, its.value)} smaller than {second.name})"


def _against(case: Case, winner: Ranked, row: Ranked) -> str:
    """Another model compared with the winner: what is gained and lost by choosing it."""
    gains, losses, needs = _differences(case, winner, row)
    said = _join([*gains, *losses])
    if not row.qualifies:
        return f"{row.name} does not qualify: {_misses(row)}" + (f"; it is {said}." if said else ".")
    if not said:
        return f"{row.name} does not differ from {winner.name} by more than the noise."
    if not gains:
        end = "." if _crossover(case, winner, row) else ": it is better in nothing that was measured."
        return f"{row.name} is {said}{end}"
    return f"{row.name} is {said}: choose {winner.name} unless you need {_join(needs)}."


def _differences(case: Case, winner: Ranked, row: Ranked) -> tuple[list[str], list[str], list[str]]:
    """What the row is better at than the winner, what it is worse at, and the reason to choose it."""
    gains: list[str] = []
    losses: list[str] = []
    needs: list[str] = []
    for name in ("memory", "speed", "fidelity"):
        key = case.sources.get(name)
        if key is None or not (key in row.candidate.measures and key in winner.candidate.measures):
            continue
        its, ours = row.candidate.measures[key], winner.candidate.measures[key]
        if its.ties_with(ours):
            continue
        better = row.figures[name] > winner.figures[name]
        (gains if better else losses).append(_difference(METRICS[key], its, ours, row))
        if better:
            needs.append(f"the {name}")
    return gains, losses, needs


def _difference(metric: Metric, its: Measure, ours: Measure, row: Ranked) -> str:
    if metric.key == "tokens_per_s":
        if its.value > ours.value:
            return f"{_more(its.value, ours.value)} faster"
        return f"{_less(its.value, ours.value)} slower"
    if metric.key == "memory_mb":
        if its.value < ours.value:
            return f"{_less(its.value, ours.value)} smaller in memory"
        return f"{_more(its.value, ours.value)} larger in memory"
    top1 = row.candidate.measures.get("top1")
    agreed = f", top-1 {METRICS['top1'].write(top1.value)}" if top1 else ""
    if its.value > ours.value and row.candidate.parts_after is not None:
        agreed += (
            f", its answers differ from the reference's after {row.candidate.parts_after:g} tokens (median)"
        )
    way = "closer to" if its.value < ours.value else "farther from"
    return f"{way} the reference ({_both(metric, its, ours)}{agreed})"


def _crossover(case: Case, winner: Ranked, row: Ranked) -> str | None:
    """The concurrency from which another model is faster than the winner, if it is slower at the deciding one."""
    ours, its = winner.candidate.speeds, row.candidate.speeds
    base = case.concurrency
    if base is None or base not in ours or base not in its or its[base].value > ours[base].value:
        return None
    above = [users for users in sorted(set(ours) & set(its)) if users > base]
    while above and not _faster(its[above[0]], ours[above[0]]):
        del above[0]
    if not above or not all(_faster(its[users], ours[users]) for users in above):
        return None
    users = above[0]
    speeds = f"{its[users].value:.0f} against {ours[users].value:.0f} tok/s"
    return f"{row.name} is faster than {winner.name} from {_requests(users)} on ({speeds})."


def _faster(one: Measure, other: Measure) -> bool:
    return one.value > other.value and not one.ties_with(other)


def _misses(row: Ranked) -> str:
    broken = [row.candidate.broken] if row.candidate.broken else []
    return _join([*(miss.text for miss in row.misses), *broken])


def _both(metric: Metric, one: Measure, other: Measure) -> str:
    return f"{metric.label} {metric.write(one.value)} against {metric.write(other.value)}"


def _more(large: float, small: float) -> str:
    ratio = large / small
    return f"{ratio:.1f} ×" if ratio >= _MULTIPLE else f"{(ratio - 1) * 100:.2g} %"


def _less(small: float, large: float) -> str:
    ratio = large / small
    return f"{ratio:.1f} ×" if ratio >= _MULTIPLE else f"{(1 - 1 / ratio) * 100:.2g} %"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _requests(users: int) -> str:
    return "one request at a time" if users == 1 else f"{users} concurrent requests"


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""

"""The verdict over versions that shared the requests for one name."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...results.served import CANCELLED, FAILED, OK, REFUSED, ServedRecord
from ...results.verdict import Difference, ModelVerdict, Verdict
from .estimate import ENOUGH_UNITS, FIGURES, Change, Figure, change, estimate, minute

ENOUGH_MINUTES = 10
"""Minutes in which each version must have had requests: what slows one for a moment is no difference between them."""
_ALPHA = 0.05  # error probability of all intervals together
_AS_BUSY = 1.25  # times are not compared beyond this difference in load
_SPLIT_Z = 3.3  # standard errors; a split beyond them happens by chance in 1 of 1,000 cases

Standing = Literal["better", "worse", "mixed", "same", "too few"]


@dataclass(frozen=True)
class Contest:
    """One version against another: the outcome, and the differences that decide it. `times`: times count."""

    standing: Standing
    differences: list[Difference]
    times: bool = True


def judge_served(records: Sequence[ServedRecord], shares: Mapping[str, float]) -> Verdict:
    """Which version to run, by what each has served under the same split.

    The version with the largest share is the baseline.

    Args:
        records: of requests under these shares.
        shares: of at least two versions.
    """
    own = {label: [record for record in records if record.version == label] for label in shares}
    present = max(shares, key=lambda label: shares[label])
    others = [label for label in shares if label != present]
    alpha = _ALPHA / (len(FIGURES) * math.comb(len(shares), 2))  # the winner is compared with all
    contests = {label: _contest(present, label, own, alpha) for label in others}
    winner, ties = _winner(present, contests, own, alpha)
    off = _off(shares, own)
    return Verdict(
        winner=winner,
        headline=_headline(present, winner, contests, own),
        sentences=[*(_account(label, own[label]) for label in shares), _NOT_SAID],
        cautions=[*_busier(present, others, own), *off],
        doubts=off,
        ties=ties,
        models=_rows(winner, present, contests),
        differences=[difference for contest in contests.values() for difference in contest.differences],
    )


_NOT_SAID = "Served requests do not show the quality of answers: measure it with models=[…] reference=…"


def _contest(before: str, after: str, own: Mapping[str, Sequence[ServedRecord]], alpha: float) -> Contest:
    long_enough = _minutes(own, before, after) >= ENOUGH_MINUTES
    times = long_enough and _load_ratio(own[before], own[after]) <= _AS_BUSY
    differences = []
    for figure in FIGURES:
        one, other = estimate(own[before], figure), estimate(own[after], figure)
        if one is None or other is None:
            continue
        found = change(one, other, figure, alpha)
        if found is not None:
            counts = figure.decides and (times or not figure.of_time)
            values = (before, one.value), (after, other.value)
            differences.append(_difference(figure, *values, found, counts=counts))
    said = {difference.better for difference in differences} - {None}
    enough = min(len(_units(_answered(own[label]))) for label in (before, after)) >= ENOUGH_UNITS
    standing: Standing = "same" if long_enough and enough else "too few"
    if said == {True, False}:
        standing = "mixed"
    elif said:
        standing = "better" if True in said else "worse"
    return Contest(standing, differences, times)


def _winner(
    present: str, contests: Mapping[str, Contest], own: Mapping[str, Sequence[ServedRecord]], alpha: float
) -> tuple[str | None, list[str]]:
    """The version to run, and the versions that it does not beat. None if no winner is known.

    A version that beats the baseline need not beat the others, so it is compared with each of them.
    """
    standings = {label: contest.standing for label, contest in contests.items()}
    best = [label for label, standing in standings.items() if standing == "better"]
    if best:
        winner = best[0]
        for label in best[1:]:
            if _contest(winner, label, own, alpha).standing == "better":
                winner = label
        rivals = [label for label in contests if label != winner]
        return winner, [label for label in rivals if _contest(label, winner, own, alpha).standing != "better"]
    if any(standing in ("mixed", "too few") for standing in standings.values()):
        return None, []
    return present, [label for label, standing in standings.items() if standing == "same"]


def _headline(
    present: str,
    winner: str | None,
    contests: Mapping[str, Contest],
    own: Mapping[str, Sequence[ServedRecord]],
) -> str:
    if winner is not None and winner != present:
        return f"run {winner}: beside {present}, {_named(contests[winner], better=True)}"
    said = []
    for label, contest in contests.items():
        match contest.standing:
            case "too few":
                said.append(_too_few(present, label, own))
            case "mixed":
                better, worse = (_named(contest, better=way) for way in (True, False))
                said.append(f"{label} is better and worse than {present}: {better}, but {worse}")
            case "worse":
                said.append(f"{label} is worse: {_named(contest, better=False)}")
            case _:
                of = "" if contest.times else ", times left out"
                said.append(f"{label} does not differ from it by more than noise{of}")
    return f"stay with {present}: {'; '.join(said)}" if winner == present else "; ".join(said)


def _too_few(present: str, label: str, own: Mapping[str, Sequence[ServedRecord]]) -> str:
    """What is missing: answered requests, or minutes."""
    answered = {name: _answered(own[name]) for name in (present, label)}
    few = min(answered, key=lambda name: len(_units(answered[name])))
    if len(_units(answered[few])) < ENOUGH_UNITS:
        return f"too few requests to judge {label}: {few} answered {_counted(answered[few])}"
    minutes = _minutes(own, present, label)
    return f"too short a time to judge {label}: requests in {minutes} of the {ENOUGH_MINUTES} minutes that are needed"


def _counted(records: Sequence[ServedRecord]) -> str:
    """ "12 of the 30 that are needed"; of sessions, how many those were."""
    units = len(_units(records))
    if units == len(records):
        return f"{units} of the {ENOUGH_UNITS} that are needed"
    return f"{len(records)}, of {units} sessions or keys, and {ENOUGH_UNITS} of those are needed"


def _named(contest: Contest, *, better: bool) -> str:
    return ", ".join(
        difference.text.partition(" (")[0]
        for difference in contest.differences
        if difference.better is better
    )


def _difference(
    figure: Figure, before: tuple[str, float], after: tuple[str, float], found: Change, *, counts: bool
) -> Difference:
    (baseline, was), (model, now) = before, after
    unit = " points" if figure.is_share else " %"
    interval = f"95 %: {_signed(found.low)} to {_signed(found.high)}{unit}"
    noise = "beyond the noise" if found.beyond_noise else "within the noise"
    remark = "" if counts or not figure.decides else "; it does not decide"
    figures = " → ".join(figure.form.format(value * figure.scale) for value in (was, now))
    return Difference(
        baseline=baseline,
        model=model,
        metric=figure.key,
        label=figure.label,
        before=was,
        after=now,
        change=now / was - 1 if was else None,
        beyond_noise=found.beyond_noise,
        better=found.high < 0 if counts and found.beyond_noise else None,
        text=f"{figure.label} {figures} ({interval}, {noise}{remark})",
    )


def _signed(change: float) -> str:
    """A change in percent or points: "+0.25", "-12", "+210"; "any" if its size is unknown."""
    if change > 100:
        return "any"
    return f"{change * 100:+.2g}" if abs(change) < 0.0995 else f"{change * 100:+,.0f}"


def _account(label: str, records: Sequence[ServedRecord]) -> str:
    """What a version did, in numbers."""
    outcomes = Counter(record.outcome for record in records)
    parts = [f"{outcomes[name]:,} {name}" for name in (OK, FAILED, CANCELLED, REFUSED) if outcomes[name]]
    reasons = Counter(reason for record in records for reason in record.finish_reasons)
    total = sum(reasons.values())
    ended = ", ".join(f"{reason} {n / total * 100:.0f} %" for reason, n in reasons.most_common())
    units = len(_units(records))
    of = f" of {units:,} sessions or keys" if units < len(records) else ""
    return (
        f"{label} had {len(records):,} requests{of}: {', '.join(parts) or 'none'}"
        f"{f'; answers ended by {ended}' if ended else ''}"
    )


def _minutes(own: Mapping[str, Sequence[ServedRecord]], *labels: str) -> int:
    """Minutes in which these versions answered requests; the smallest of their numbers."""
    return min(len({minute(record) for record in _answered(own[label])}) for label in labels)


def _answered(records: Sequence[ServedRecord]) -> list[ServedRecord]:
    return [record for record in records if record.outcome == OK]


def _units(records: Sequence[ServedRecord]) -> set[str]:
    return {record.unit for record in records}


def _at_once(records: Sequence[ServedRecord]) -> float:
    return statistics.fmean([record.at_once for record in records if record.at_once] or [1.0])


def _load_ratio(one: Sequence[ServedRecord], other: Sequence[ServedRecord]) -> float:
    low, high = sorted((_at_once(one), _at_once(other)))
    return high / low


def _busier(present: str, others: Sequence[str], own: Mapping[str, Sequence[ServedRecord]]) -> list[str]:
    """The sentence that times are not compared, because one version had a higher load."""
    return [
        f"{present} answered {_at_once(own[present]):.1f} requests at once on average and {label} "
        f"{_at_once(own[label]):.1f}, so their times do not decide: give them equal shares to compare those"
        for label in others
        if own[label] and own[present] and _load_ratio(own[present], own[label]) > _AS_BUSY
    ]


def _off(shares: Mapping[str, float], own: Mapping[str, Sequence[ServedRecord]]) -> list[str]:
    """The warning that the split is not as configured: some requests of a version are missing, so nothing is
    certain.
    """
    total = sum(len(_units(records)) for records in own.values())
    found = []
    for label, share in shares.items():
        units, expected = len(_units(own[label])), total * share
        if abs(units - expected) > _SPLIT_Z * math.sqrt(expected * (1 - share)) + 0.5:
            found.append(
                f"{label} had {units:,} sessions, keys or requests, and {expected:,.0f} of {total:,} were to be "
                "expected: some requests are not counted, so this verdict is not reliable"
            )
    return found


def _rows(winner: str | None, present: str, contests: Mapping[str, Contest]) -> list[ModelVerdict]:
    labels = [present, *contests]
    order = sorted(labels, key=lambda label: label != winner)
    why = {label: contest.standing for label, contest in contests.items()}
    return [
        ModelVerdict(
            name=label,
            qualifies=True,
            rank=None if winner is None else rank,
            why="the baseline" if label == present else f"{why[label]}, beside {present}",
        )
        for rank, label in enumerate(order, start=1)
    ]

"""Versions in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from ...models.registered import WeightsVersion, standing
from ...reports.columns import Column
from ...reports.tables import fit_tables, print_table, printable
from ...results.metrics import METRICS

_FIGURES = ("tokens_per_s", "memory_mb", "kld")


def as_listing(versions: Sequence[WeightsVersion]) -> list[dict[str, Any]]:
    """The versions as plain values for JSON, each with what is wrong with its files (`problem`)."""
    return [
        {"version": each.label, **msgspec.to_builtins(each), "problem": standing(each)} for each in versions
    ]


def print_versions(console: Console, versions: Sequence[WeightsVersion]) -> None:
    """A line a version, then what is wrong with the files of some."""
    if not versions:
        console.print("no versions to show; mode=benchmark, mode=compare and mode=serve make them")
        return
    problems = {each.label: standing(each) for each in versions}
    for table in fit_tables(_columns(problems), versions, console):
        print_table(console, table)
        console.print()
    for label, problem in problems.items():
        if problem:
            console.print(Text(label, style="red") + Text(f": {printable(problem)}"), soft_wrap=True)


def _columns(problems: Mapping[str, str]) -> list[Column[WeightsVersion]]:
    return [
        Column("version", lambda v: v.label, is_number=False),
        Column("aliases", lambda v: ", ".join(v.aliases), is_number=False),
        Column(
            "files",
            lambda v: _short(problems[v.label]),
            is_number=False,
            style=lambda v: "red" if problems[v.label] else "green",
        ),
        Column("method", lambda v: v.weights.method or v.weights.format, is_number=False),
        *(_figure(key) for key in _FIGURES),
        Column(
            "made from", lambda v: v.weights.origins[0].name if v.weights.origins else "", is_number=False
        ),
        Column("digest", lambda v: v.weights.digest, is_number=False),
        Column("run", lambda v: v.last_run[:8], is_number=False),
        Column("served", lambda v: v.served_at[:10], is_number=False),
        Column("place", lambda v: v.weights.path, is_number=False),
    ]


def _short(problem: str) -> str:
    """ "gone" of "its files are gone"."""
    for word in ("gone", "changed", "damaged"):
        if word in problem:
            return word
    return "elsewhere" if problem else "there"


def _figure(key: str) -> Column[WeightsVersion]:
    metric = METRICS[key]

    def cell(version: WeightsVersion) -> str:
        value = version.figures.get(key)
        return "" if value is None else metric.write(value)

    return Column(metric.title, cell)

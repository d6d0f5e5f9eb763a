"""Verdicts over finished results as the page shows them: which models qualify, in order, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..config import VerdictConfig
from ..results.metrics import METRICS
from ..results.schema import ModelResult
from ..results.verdict import Verdict
from ..verdict.candidates import candidate
from ..verdict.verdict import draw_verdict
from .text import as_markdown

NO_LIMITS = VerdictConfig()


def judge(models: Sequence[ModelResult], limits: VerdictConfig) -> Verdict | None:
    """The verdict over what was measured, under other limits; nothing is measured again."""
    return draw_verdict(models, limits)


def in_words(verdict: Verdict | None) -> str:
    """A verdict as Markdown."""
    if verdict is None:
        return "Nothing was measured."
    lines = [f"### {as_markdown(verdict.headline)}", *map(as_markdown, verdict.sentences)]
    return "\n\n".join([*lines, *(f"⚠ {as_markdown(caution)}" for caution in verdict.cautions)])


def table(
    models: Sequence[ModelResult], users: int | None, misses: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The figures of models that a verdict can be about, a row each; `misses`: limits that a model does not meet."""
    candidates = [candidate(model, users) for model in models]
    keys = [key for key in METRICS if any(key in each.measures for each in candidates)]
    rows = []
    for each in candidates:
        row = {"model": each.name}
        for key in keys:
            row[METRICS[key].label] = (
                METRICS[key].write(each.measures[key].value) if key in each.measures else ""
            )
        if misses is not None:
            row["misses"] = misses.get(each.name, "")
        row["problem"] = each.error or each.broken or ""
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.loc[:, [name for name in frame if name in ("model", "misses") or (frame[name] != "").any()]]

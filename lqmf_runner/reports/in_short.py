"""The first lines of a run's description in MLflow, which shows no more of it until it is opened."""

from __future__ import annotations

import re

from ..config import VerdictConfig
from ..results.metrics import METRICS, Metric
from ..results.schema import ModelResult, Results
from ..verdict.candidates import candidate, verdict_concurrency

NO_LIMITS = VerdictConfig()
_FIVE = ("tokens_per_s", "ttft_s", "memory_mb", "kld", "top1")


def in_short(results: Results, model: ModelResult | None) -> str:
    """The verdict, then the five numbers of a model: of this one, or of the one that won. Markdown, or empty."""
    verdict = results.verdict
    lines = []
    if verdict is not None:
        lines.append(f"**Verdict: {_plain(verdict.headline)}**")
    if model is None:
        winner = verdict.winner if verdict is not None else None
        model = next((each for each in results.models if each.name == winner), None)
    if model is not None:
        users = verdict_concurrency([model], NO_LIMITS)
        measures = candidate(model, users).measures
        at = "" if users is None else f" ({users} user{'' if users == 1 else 's'})"
        figures = [_figure(METRICS[key], measures[key].value, at) for key in _FIVE if key in measures]
        if figures:
            lines.append(f"{_plain(model.name)}: {' · '.join(figures)}")
    return "".join(f"{line}\n\n" for line in lines)


def _figure(metric: Metric, value: float, at: str) -> str:
    """ "memory 270 MB", "100.0 tok/s (1 user)"."""
    text = metric.write(value)
    return f"{'' if metric.title in text else f'{metric.title} '}{text}{at if metric.of_load else ''}"


def _plain(text: str) -> str:
    """Without what Markdown would read."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text)

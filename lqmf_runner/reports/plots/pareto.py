"""Fidelity against speed, with memory as area: which models are beaten in everything by another one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...results.metrics import METRICS
from ...results.schema import ModelResult, Results
from .. import figures as fig
from .palette import INK, MUTED
from .style import Plot, Sheet, colour, marker, unique

_LARGEST, _SMALLEST = 420.0, 28.0  # areas of markers, in points²


@dataclass(frozen=True)
class _Model:
    number: int
    label: str
    speed: float
    loss: float
    memory_mb: float | None


def pareto_plot(results: Results) -> Iterator[Plot]:
    """The models that have both a speed and a fidelity, if they are two or more."""
    loads = (load.shape for model in results.models for load in model.loads)
    shape = next((shape for shape in loads if shape.concurrency is not None), None)
    if shape is None:
        return
    measure = _measure(results.models)
    labels = unique([model.name for model in results.models], 26)
    shown = []
    for number, model in enumerate(results.models):
        load = fig.find_load(model, shape)
        loss = _losses(model).get(measure)
        if load is not None and load.output_tokens_per_s is not None and loss is not None:
            memory = METRICS["memory_mb"].read(model)
            label = labels[number] + (f" · {fig.megabytes(memory)}" if memory else "")
            shown.append(_Model(number, label, load.output_tokens_per_s, loss, memory))
    if len(shown) < 2:
        return
    with Sheet("pareto", "Fidelity and speed", 3.4) as sheet:
        _draw(sheet, shown, fig.load_label(shape), measure)
        yield sheet.plot(
            "Up and to the right is better. The area of a marker is the model's memory; the line joins the models "
            "that no other one beats in both speed and fidelity."
        )


def _losses(model: ModelResult) -> dict[str, float | None]:
    quality = model.quality
    return {
        "mean KL divergence": quality.kld.mean if quality.kld else None,
        "top-1 disagreement": None if quality.top1_agreement is None else 1 - quality.top1_agreement,
        "perplexity": quality.perplexity,
    }


def _measure(models: list[ModelResult]) -> str:
    """The measure of fidelity that most models have, the sharper one of equals."""
    counts = dict.fromkeys(_losses(models[0]), 0)
    for model in models:
        for name, value in _losses(model).items():
            counts[name] += value is not None
    return max(counts, key=lambda name: counts[name])


def _draw(sheet: Sheet, models: list[_Model], at: str, measure: str) -> None:
    axes = sheet.axes
    most = max((m.memory_mb or 0 for m in models), default=0) or 1.0
    front = _front(models)
    axes.plot(
        [m.speed for m in front], [m.loss for m in front], color=MUTED, linewidth=1, linestyle="--", zorder=1
    )
    for model in sorted(models, key=lambda m: -(m.memory_mb or 0)):
        area = max(_SMALLEST, _LARGEST * (model.memory_mb or 0) / most)
        axes.scatter(
            model.speed, model.loss, s=area, color=colour(model.number), marker=marker(model.number), alpha=0.8,
            edgecolors=INK, linewidths=0.6, zorder=2,
        )  # fmt: skip
    for model in models:
        axes.scatter([], [], s=30, color=colour(model.number), marker=marker(model.number), label=model.label)
    axes.set_xlabel(f"output tokens / s {at}")
    fastest = max(m.speed for m in models)
    axes.set_xlim(0, fastest * 1.12)
    _loss_axis(sheet, [m.loss for m in models], measure)
    sheet.legend(len(models), max(len(m.label) for m in models))


def _loss_axis(sheet: Sheet, losses: list[float], measure: str) -> None:
    """Less is better, so that it grows downwards. Square roots spread what is near 0 and can show 0 itself."""
    axes, low, high = sheet.axes, min(losses), max(losses)
    axes.set_ylabel(f"{measure} (less is better)")
    if measure == "perplexity":
        margin = max((high - low) * 0.15, high * 0.02)
        axes.set_ylim(high + margin, low - margin)
        return
    top = max(high, 1e-6) * 1.25
    axes.set_yscale("function", functions=(_signed_root, _signed_square))
    steps = [m * 10.0**e for e in range(-8, 3) for m in (1, 2, 5)]
    ticks = [0.0]
    for step in steps:  # no closer than a ninth of the axis, or the numbers would touch
        if step <= top and (step / top) ** 0.5 - (ticks[-1] / top) ** 0.5 > 0.11:
            ticks.append(step)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(top, -top * 0.005)  # some air, so that a marker at 0 is seen whole


def _signed_root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)


def _front(models: list[_Model]) -> list[_Model]:
    """Models that none beats in both, from the slowest to the fastest."""
    kept = [
        m
        for m in models
        if not any(
            o.speed >= m.speed and o.loss <= m.loss and (o.speed > m.speed or o.loss < m.loss) for o in models
        )
    ]
    return sorted(kept, key=lambda m: m.speed)

"""The tab Runs: finished runs, their reports, two side by side, and how a model's speed went over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ...errors import UserInputError
from ...results.finished import FinishedRun, contrasts, gather
from ...results.schema import ModelResult
from ...verdict.candidates import verdict_concurrency
from ...verdict.differences import differences_from_first
from .. import verdicts
from ..api import page_error
from ..config import PATH, PageConfig
from ..finished_runs import Run, find_run, list_runs, trust
from ..parts import command_line, first_cell, text_table
from ..text import as_markdown, command, run_setting

# A window shows the first columns: how far the figures can be trusted is among them.
_COLUMNS = ["run", "trust", "mode", "models", "prompts", "loads", "best"]


@dataclass(frozen=True)
class _Layout:
    """The components of the tab. `same` has the command of what is described."""

    table: gr.Dataframe
    first: gr.Dropdown
    second: gr.Dropdown
    refresh: gr.Button
    about: gr.Markdown
    figures: gr.Dataframe
    trend: gr.LinePlot
    same: gr.Textbox


def add(config: PageConfig, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout = _lay_out()
    first, second = layout.first, layout.second

    # Plain functions: Gradio runs them in threads, and a server that reads results goes on answering.
    def show() -> tuple[Any, ...]:
        runs = list_runs(config.outputs)
        ids = [run.id for run in runs]
        return (
            [_row(run) for run in runs],
            gr.Dropdown(choices=ids),
            gr.Dropdown(choices=["", *ids]),
            _trend(runs),
        )

    def describe(one: str | None, other: str | None) -> tuple[str, Any, str]:
        return (
            _describe([_found(config.outputs, name) for name in (one, other) if name])
            if one
            else ("", None, "")
        )

    layout.table.select(first_cell, None, first, api_visibility="private")
    for chosen in (first, second):
        chosen.change(
            describe, [first, second], [layout.about, layout.figures, layout.same], api_visibility="private"
        )
    for event in (layout.refresh.click, blocks.load):
        event(show, None, [layout.table, first, second, layout.trend], api_visibility="private")


def _lay_out() -> _Layout:
    table = text_table(_COLUMNS, "Finished runs", "runs-table", search=True)
    with gr.Row():
        first = gr.Dropdown(label="Run", choices=[], elem_id="runs-first", scale=2, min_width=280)
        second = gr.Dropdown(label="Beside", choices=[], elem_id="runs-second", scale=2, min_width=280)
        refresh = gr.Button("Refresh list", min_width=90)
    about = gr.Markdown(elem_id="runs-about")
    figures = text_table(["model"], "Figures", "runs-figures")
    trend = gr.LinePlot(
        x="started", y="output tok/s", color="model and load", title="Output tok/s at the lowest load",
        x_label_angle=-30, height=280,
    )  # fmt: skip
    return _Layout(table, first, second, refresh, about, figures, trend, command_line("runs"))


def _describe(runs: list[Run]) -> tuple[str, pd.DataFrame, str]:
    """One run, or two side by side: what there is to say, the figures, and the same in a terminal."""
    if len(runs) == 1:
        return _about(runs[0]), _figures(runs[0].results.models), command("history")
    line = command("compare", run_setting([run.folder for run in runs]))
    try:
        text, rows = _side_by_side(runs)
    except UserInputError as error:
        raise page_error(f"{error.message}\n{error.hint}") from None
    return text, rows, line


def _found(outputs: Path, name: str) -> Run:
    run = find_run(outputs, name)
    if run is None:
        raise page_error(f"there is no run {name}")
    return run


def _row(run: Run) -> list[str]:
    models = run.results.models
    loads = dict.fromkeys(load.shape.key for model in models for load in model.loads)
    winner = run.results.verdict.winner if run.results.verdict else None
    names = ", ".join(model.name for model in models)
    return [
        run.id,
        trust(run) or "✓",
        run.results.run.mode,
        names,
        run.prompts,
        " ".join(loads),
        winner or "",
    ]


def _about(run: Run) -> str:
    lines = []
    if (run.folder / "report.html").exists():
        lines.append(f"**[Open the report]({PATH}/runs/{run.id}/report.html)**")
    if marks := trust(run):
        lines.append(f"⚠ {as_markdown(marks)}")
    verdict = run.results.verdict
    if verdict is not None:
        lines += [
            f"**{as_markdown(verdict.headline)}**",
            *map(as_markdown, verdict.sentences),
            *map(as_markdown, verdict.cautions),
        ]
    if run.results.run.mlflow_run_id:
        lines.append(f"In MLflow: run `{run.results.run.mlflow_run_id}`; `make ui` opens it on port 5000.")
    return "\n\n".join(lines)


def _figures(models: list[ModelResult]) -> pd.DataFrame:
    return verdicts.table(models, verdict_concurrency(models, verdicts.NO_LIMITS))


def _side_by_side(runs: list[Run]) -> tuple[str, pd.DataFrame]:
    """What differs between two runs beyond noise, and the figures of both."""
    finished = [FinishedRun(run.folder.name, run.results, run.config) for run in runs]
    gathered = gather(finished)
    models = [model for own in gathered for model in own]
    users = verdict_concurrency(models, verdicts.NO_LIMITS)
    lines = [f"⚠ {as_markdown(contrast.text)}" for contrast in contrasts(finished)]
    lines += [
        f"- {as_markdown(each.model)}: {as_markdown(each.text)}"
        for each in differences_from_first(finished, gathered, users)
        if each.beyond_noise
    ]
    return "\n\n".join(lines) or "Nothing differs beyond noise.", _figures(models)


def _trend(runs: list[Run]) -> pd.DataFrame:
    """A line for each model under each load: batches answer a file, which is another load than that of a benchmark."""
    points = []
    for run in runs:
        for model in run.results.models:
            closed = [load for load in model.loads if load.shape.concurrency is not None]
            lowest = min(closed, key=lambda load: load.shape.concurrency or 0, default=None)
            if lowest is not None and lowest.output_tokens_per_s is not None:
                kind = "batch " if run.results.run.mode == "batch" else ""
                line = f"{model.name} {kind}{lowest.shape.key}"
                points.append((run.results.run.started_at, line, lowest.output_tokens_per_s))
    frame = pd.DataFrame(points, columns=["started", "model and load", "output tok/s"])
    frame["started"] = pd.to_datetime(frame["started"], utc=True)
    return frame

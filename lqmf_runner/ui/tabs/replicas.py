"""The part of the tab Models about replicas: where they run, how they are, and how many there are to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..api import Api, model_path, page_error
from ..parts import ModelsTab, command_line, text_table
from ..text import as_markdown

_COLUMNS = [
    "model", "replica", "place", "state", "running", "tokens to compute", "answered", "output tokens", "memory, MB",
]  # fmt: skip
_EVERY_S = 3.0
_NONE = "Every loaded model is one engine. Scaling a model gives it replicas."


@dataclass(frozen=True)
class _Layout:
    """The components of the part."""

    nodes: gr.Markdown
    table: gr.Dataframe
    count: gr.Number
    scale: gr.Button
    outcome: gr.Textbox
    same: gr.Textbox
    ticks: gr.Timer

    @property
    def shown(self) -> list[Any]:
        """What shows the replicas; `_show` has its values."""
        return [self.nodes, self.table, self.ticks]


def add(api: Api, blocks: gr.Blocks, models: ModelsTab) -> None:
    """Add the part to the tab."""
    layout = _lay_out()

    async def show(visitor: gr.Request) -> tuple[Any, ...]:
        return await _show(api, visitor)

    async def scale(chosen: str | None, wanted: int | None, visitor: gr.Request) -> tuple[Any, ...]:
        done = await _scale(api, visitor, chosen, wanted)
        return *done, *await show(visitor), *await models.show(visitor, chosen)

    layout.scale.click(
        scale, [models.name, layout.count], [layout.outcome, layout.same, *layout.shown, *models.shown],
        api_visibility="private",
    )  # fmt: skip
    for event in (layout.ticks.tick, models.refresh.click, blocks.load):
        event(show, None, layout.shown, show_progress="hidden", api_visibility="private")


def _lay_out() -> _Layout:
    nodes = gr.Markdown(_NONE, elem_id="replicas-nodes")
    table = text_table(_COLUMNS, "Replicas", "replicas-table")
    with gr.Row():
        count = gr.Number(
            2, label="Replicas of the model that is chosen above", precision=0, minimum=1, maximum=1000,
            elem_id="replicas-count", scale=3,
        )  # fmt: skip
        scale = gr.Button("Scale", min_width=90, elem_id="replicas-scale")
    outcome = gr.Textbox(label="Outcome", interactive=False, elem_id="replicas-outcome")
    same = command_line("replicas")
    return _Layout(nodes, table, count, scale, outcome, same, ticks=gr.Timer(_EVERY_S, active=False))


async def _show(api: Api, visitor: gr.Request) -> tuple[Any, ...]:
    """The replicas as they are now; the timer runs while there are any."""
    loaded = (await api.get("/models", visitor))["models"]
    rows = [(model["name"], replica) for model in loaded for replica in model["replicas"]]
    return _nodes(rows), [_row(*row) for row in rows], gr.Timer(active=bool(rows))


async def _scale(api: Api, visitor: gr.Request, chosen: str | None, wanted: int | None) -> tuple[str, str]:
    """Give a model so many replicas; what came of it, and the same in a terminal."""
    if not chosen or not wanted:
        raise page_error("choose a model, and say how many replicas it is to have")
    path, body = model_path(chosen, "scale"), {"replicas": int(wanted)}
    there = (await api.post(path, visitor, body))["replicas"]
    ready = sum(replica["state"] == "ready" for replica in there)
    has = f"has {len(there)} replicas, {ready} of them ready" if there else "is one engine"
    return f"{chosen} {has}.", api.curl("POST", path, visitor, body)


def _nodes(rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A line for each place."""
    if not rows:
        return _NONE
    there = Counter(replica["place"] for _, replica in rows)
    ready = Counter(replica["place"] for _, replica in rows if replica["state"] == "ready")
    running, memory = Counter[str](), Counter[str]()
    for _, replica in rows:
        running[replica["place"]] += replica["running"]
        memory[replica["place"]] += round(replica["memory_mb"])
    return "\n".join(
        f"- **{as_markdown(place) or 'not placed yet'}**: {ready[place]} of {count} ready, "
        f"{running[place]} requests running, {memory[place]:,} MB"
        for place, count in sorted(there.items())
    )


def _row(model: str, replica: dict[str, Any]) -> list[str]:
    state = replica["state"]
    state += ", slower than the others" if replica["slow"] else ""
    state += f", lost {replica['losses']} times in a row" if replica["losses"] else ""
    numbers = (replica[key] for key in ("running", "work_tokens", "requests", "output_tokens", "memory_mb"))
    return [model, str(replica["number"]), replica["place"], state, *(f"{number:,.0f}" for number in numbers)]

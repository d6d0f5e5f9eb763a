"""The tab Models: what is there, what is wrong with the rest, memory, load, unload, pin, replicas and versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ...cgroup import available_memory
from ...config.texts import quoted
from ..api import Api, model_path
from ..config import PageConfig
from ..jobs import Jobs
from ..parts import ModelsTab, choice_of, command_line, first_cell, text_table
from ..text import command
from . import replicas, served, versions

_COLUMNS = [
    "model", "format", "bits", "size, MB", "state", "memory, MB", "tok/s", "requests", "what is wrong",
]  # fmt: skip
Act = Callable[[Api, gr.Request, str], Awaitable[tuple[str, str]]]


@dataclass(frozen=True)
class _Layout:
    """The components of the tab, without those of its parts. `acts` says what each button does with a model."""

    memory: gr.Markdown
    table: gr.Dataframe
    name: gr.Dropdown
    acts: Sequence[tuple[gr.Button, Act]]
    refresh: gr.Button
    outcome: gr.Textbox
    same: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What shows the models."""
        return [self.table, self.name, self.memory]


def add(api: Api, config: PageConfig, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout = _lay_out()
    name, shown = layout.name, layout.shown

    async def show(visitor: gr.Request, chosen: str | None) -> tuple[Any, ...]:
        rows, names, line = await _overview(api, visitor)
        return rows, choice_of(names, chosen), line

    def and_show(act: Act) -> Callable[..., Any]:
        """One event: with a second one behind it, a click that comes between the two can be lost."""

        async def both(chosen: str, visitor: gr.Request) -> tuple[Any, ...]:
            return (*await act(api, visitor, chosen), *await show(visitor, chosen))

        return both

    shared = ModelsTab(name, layout.refresh, shown, show)
    with gr.Accordion("Replicas, and the nodes that they run on", open=False, elem_id="models-replicas"):
        replicas.add(api, blocks, shared)
    with gr.Accordion("Versions: which weights answer a name", open=False, elem_id="models-versions"):
        versions.add(api, blocks, shared)
        served.add(api, config, jobs, name)
    layout.table.select(first_cell, None, name, api_visibility="private")
    for button, act in layout.acts:
        button.click(and_show(act), name, [layout.outcome, layout.same, *shown], api_visibility="private")
    for event in (layout.refresh.click, blocks.load):
        event(show, name, shown, api_visibility="private")


def _lay_out() -> _Layout:
    memory = gr.Markdown()
    table = text_table(_COLUMNS, "Models", "models-table", search=True)
    with gr.Row():
        name = gr.Dropdown(label="Model", choices=[], interactive=True, elem_id="models-name", scale=3)
        acts = (
            (gr.Button("Load", min_width=90, variant="primary"), _load),
            (gr.Button("Unload", min_width=90), _unload),
            (gr.Button("Pin", min_width=90), _pin),
            (gr.Button("Unpin", min_width=90), _unpin),
        )
        refresh = gr.Button("Refresh", min_width=90)
    outcome = gr.Textbox(label="Outcome", interactive=False, elem_id="models-outcome")
    return _Layout(memory, table, name, acts, refresh, outcome, command_line("models"))


async def _load(api: Api, visitor: gr.Request, chosen: str) -> tuple[str, str]:
    answer = await api.post(model_path(chosen, "load"), visitor)
    return _loaded(answer), command("serve", chosen)


async def _unload(api: Api, visitor: gr.Request, chosen: str) -> tuple[str, str]:
    answer = await api.post(model_path(chosen, "unload"), visitor)
    text = f"unloaded, {answer['memory_mb']:,.0f} MB freed" if answer["was_loaded"] else "was not loaded"
    return f"{chosen} {text}.", api.curl("POST", model_path(chosen, "unload"), visitor)


async def _pin(api: Api, visitor: gr.Request, chosen: str) -> tuple[str, str]:
    await api.post(model_path(chosen, "load"), visitor, {"pin": True})
    return f"{chosen} is loaded and stays.", command("serve", chosen, f"server.pin=[{quoted(chosen)}]")


async def _unpin(api: Api, visitor: gr.Request, chosen: str) -> tuple[str, str]:
    await api.post(model_path(chosen, "load"), visitor, {"pin": False})
    return f"{chosen} is loaded, and makes room when another model needs it.", command("serve", chosen)


async def _overview(api: Api, visitor: gr.Request) -> tuple[list[list[str]], list[str], str]:
    """Rows of the table, names that can be loaded, and a line about memory."""
    there = (await api.get("/models/available", visitor))["models"]
    loaded = await api.get("/models", visitor)
    by_name = {model["name"]: model for model in loaded["models"]}
    rows = [_row(model, by_name.get(model["name"])) for model in there]
    names = [model["name"] for model in there if not model["problem"]]
    listed = {model["name"] for model in there}
    for model in loaded["models"]:
        if model["name"] not in listed:  # a version
            rows.append(_row({**model, "size_mb": 0.0, "problem": ""}, model))
            names.append(model["name"])
    free = available_memory() / 1e6
    line = (
        f"**{loaded['memory_mb']:,.0f}** of {loaded['max_memory_mb']:,.0f} MB used by "
        f"{len(by_name)} of at most {loaded['max_models']} models · {free:,.0f} MB free on this machine"
    )
    return rows, names, line


def _row(model: dict[str, Any], loaded: dict[str, Any] | None) -> list[str]:
    state, memory, speed, requests = "", "", "", ""
    if loaded is not None:
        state = loaded["state"] + (", pinned" if loaded["pinned"] else "")
        state += f", {len(loaded['replicas'])} replicas" if loaded["replicas"] else ""
        state += f", with {loaded['same_as']}" if loaded["same_as"] else ""
        memory = "" if loaded["same_as"] else f"{loaded['memory_mb']:,.0f}"
        speed = f"{loaded['tokens_per_second']:.0f}" if loaded["tokens_per_second"] else ""
        requests = f"{loaded['requests']:,}"
    form = " ".join(word for word in (model["format"], model["method"]) if word)
    bits = f"{model['bits']:g}" if model["bits"] else ""
    size = f"{model['size_mb']:,.0f}" if model["size_mb"] else ""
    return [model["name"], form, bits, size, state, memory, speed, requests, model["problem"]]


def _loaded(answer: dict[str, Any]) -> str:
    notes = "".join(f" · {note}" for note in answer["notes"])
    again = "was loaded already" if answer["already_loaded"] else f"loaded in {answer['load_time_s']:.1f} s"
    return f"{answer['name']} {again}, {answer['memory_mb']:,.0f} MB{notes}"

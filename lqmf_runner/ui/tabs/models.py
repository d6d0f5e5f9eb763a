"""The tab Models: what is there, what is wrong with the rest, memory, load, unload and pin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
import psutil

from ..api import Api, model_path
from ..parts import command_line
from ..text import command

_COLUMNS = [
    "model",
    "format",
    "bits",
    "size, MB",
    "state",
    "memory, MB",
    "tok/s",
    "requests",
    "what is wrong",
]


def add(api: Api, blocks: gr.Blocks) -> None:
    """Add the tab."""
    memory = gr.Markdown()
    table = gr.Dataframe(
        headers=_COLUMNS, datatype="str", interactive=False, wrap=True, label="Models", show_search="filter",
        elem_id="models-table",
    )  # fmt: skip
    with gr.Row():
        name = gr.Dropdown(label="Model", choices=[], interactive=True, elem_id="models-name", scale=3)
        load = gr.Button("Load", min_width=90, variant="primary")
        unload = gr.Button("Unload", min_width=90)
        pin = gr.Button("Pin", min_width=90)
        unpin = gr.Button("Unpin", min_width=90)
        refresh = gr.Button("Refresh", min_width=90)
    outcome = gr.Textbox(label="Outcome", interactive=False, elem_id="models-outcome")
    same = command_line("models")

    async def show(visitor: gr.Request, chosen: str | None) -> tuple[Any, ...]:
        rows, names, line = await _overview(api, visitor)
        value = chosen if chosen in names else next(iter(names), None)
        return rows, gr.Dropdown(choices=names, value=value), line

    async def on_load(chosen: str, visitor: gr.Request) -> tuple[str, str]:
        answer = await api.post(model_path(chosen, "load"), visitor)
        return _loaded(answer), command("serve", chosen)

    async def on_pin(chosen: str, visitor: gr.Request) -> tuple[str, str]:
        await api.post(model_path(chosen, "load"), visitor, {"pin": True})
        return f"{chosen} is loaded and stays.", command("serve", chosen, f"server.pin=[{chosen}]")

    async def on_unpin(chosen: str, visitor: gr.Request) -> tuple[str, str]:
        await api.post(model_path(chosen, "load"), visitor, {"pin": False})
        return f"{chosen} is loaded, and makes room when another model needs it.", command("serve", chosen)

    async def on_unload(chosen: str, visitor: gr.Request) -> tuple[str, str]:
        answer = await api.post(model_path(chosen, "unload"), visitor)
        text = f"unloaded, {answer['memory_mb']:,.0f} MB freed" if answer["was_loaded"] else "was not loaded"
        return f"{chosen} {text}.", f"curl -X POST {api.url}{model_path(chosen, 'unload')}"

    shown = [table, name, memory]

    async def select(event: gr.SelectData) -> str:
        return str(event.row_value[0])

    table.select(select, None, name, api_visibility="private")

    def and_show(act: Callable[[str, gr.Request], Awaitable[tuple[str, str]]]) -> Callable[..., Any]:
        """One event: with a second one behind it, a click that comes between the two can be lost."""

        async def both(chosen: str, visitor: gr.Request) -> tuple[Any, ...]:
            return (*await act(chosen, visitor), *await show(visitor, chosen))

        return both

    for button, act in ((load, on_load), (unload, on_unload), (pin, on_pin), (unpin, on_unpin)):
        button.click(and_show(act), name, [outcome, same, *shown], api_visibility="private")
    refresh.click(show, name, shown, api_visibility="private")
    blocks.load(show, name, shown, api_visibility="private")


async def _overview(api: Api, visitor: gr.Request) -> tuple[list[list[str]], list[str], str]:
    """Rows of the table, names that can be loaded, and a line about memory."""
    there = (await api.get("/models/available", visitor))["models"]
    loaded = await api.get("/models", visitor)
    by_name = {model["name"]: model for model in loaded["models"]}
    rows = [_row(model, by_name.get(model["name"])) for model in there]
    names = [model["name"] for model in there if not model["problem"]]
    free = psutil.virtual_memory().available / 1e6
    line = (
        f"**{loaded['memory_mb']:,.0f}** of {loaded['max_memory_mb']:,.0f} MB used by "
        f"{len(by_name)} of at most {loaded['max_models']} models · {free:,.0f} MB free on this machine"
    )
    return rows, names, line


def _row(model: dict[str, Any], loaded: dict[str, Any] | None) -> list[str]:
    state, memory, speed, requests = "", "", "", ""
    if loaded is not None:
        state = loaded["state"] + (", pinned" if loaded["pinned"] else "")
        memory = f"{loaded['memory_mb']:,.0f}"
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

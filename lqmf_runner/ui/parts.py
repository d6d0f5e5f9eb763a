"""Parts that several tabs have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from .api import Api, page_error


def command_line(tab: str) -> gr.Textbox:
    """A line that shows how the same is done in a terminal."""
    return gr.Textbox(
        label="The same in a terminal", interactive=False, buttons=["copy"], elem_classes="command",
        elem_id=f"{tab}-command",
    )  # fmt: skip


def text_table(headers: Sequence[str], label: str, elem_id: str, *, search: bool = False) -> gr.Dataframe:
    """A table of texts that nobody edits; `search` gives it a field that filters rows."""
    return gr.Dataframe(
        headers=list(headers), datatype="str", interactive=False, wrap=True, label=label, elem_id=elem_id,
        show_search="filter" if search else "none",
    )  # fmt: skip


async def first_cell(event: gr.SelectData) -> str:
    """The first cell of the row that was clicked: what the row is about."""
    return str(event.row_value[0])


def choice_of(names: Sequence[str], chosen: str | None = None) -> gr.Dropdown:
    """A list of names in which `chosen` stays chosen if it is still there; the first one otherwise."""
    return gr.Dropdown(choices=list(names), value=chosen if chosen in names else next(iter(names), None))


@dataclass(frozen=True)
class ModelsTab:
    """What the parts of the tab Models share with it.

    Attributes:
        name: the model that is chosen.
        refresh: shows everything anew.
        shown: the components that show the models; a part that changes a model changes them too.
        show: their new values, for a visitor and the model that is chosen.
    """

    name: gr.Dropdown
    refresh: gr.Button
    shown: Sequence[Any]
    show: Callable[[gr.Request, str | None], Awaitable[tuple[Any, ...]]]


def check_role(visitor: gr.Request) -> None:
    """Refuse a visitor whose key may not start runs: one costs as much as loading a model, and wants the same role."""
    key = visitor.request.scope["state"].get("api_key")
    if key is not None and not key.admin:
        raise page_error("this key may not start runs; use a key with the role admin")


async def model_names(api: Api, visitor: gr.Request) -> list[str]:
    """Names of the models that can be asked; loaded ones first."""
    there: list[dict[str, Any]] = (await api.get("/models/available", visitor))["models"]
    usable = [model for model in there if not model["problem"]]
    return [model["name"] for model in sorted(usable, key=lambda model: not model["loaded"])]


async def version_names(api: Api, visitor: gr.Request) -> list[str]:
    """Names of versions that can be asked: `qwen@champion` and other aliases, then `qwen@3`, the newest first."""
    try:
        there: list[dict[str, Any]] = (await api.get("/versions/available", visitor))["versions"]
    except gr.Error:  # the registry cannot be read now: the tab Models says so
        return []
    aliases = [f"{version['model']}@{alias}" for version in there for alias in version["aliases"]]
    return [*aliases, *(version["name"] for version in there)]


async def all_names(api: Api, visitor: gr.Request) -> list[str]:
    """Names of models and versions."""
    return [*await model_names(api, visitor), *await version_names(api, visitor)]


def offer_versions(loaded: Dependency, api: Api, *dropdowns: gr.Dropdown, blank: bool = False) -> None:
    """Add versions to lists of models, once these are there: reading the registry can take seconds.

    Args:
        loaded: the event that fills the lists.
        blank: the lists have an empty choice.
    """

    async def offer(visitor: gr.Request) -> Any:
        versions = await version_names(api, visitor)
        if not versions:
            return [gr.skip()] * len(dropdowns) if len(dropdowns) > 1 else gr.skip()
        names = [*([""] if blank else []), *await model_names(api, visitor), *versions]
        updates = [gr.Dropdown(choices=names) for _ in dropdowns]
        return updates if len(updates) > 1 else updates[0]

    loaded.then(offer, None, list(dropdowns), show_progress="hidden", api_visibility="private")

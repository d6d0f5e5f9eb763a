"""The part of the tab Models about versions: which there are, which answer, promote and roll back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..api import Api, model_path, page_error
from ..parts import ModelsTab, choice_of, command_line, first_cell, text_table

_COLUMNS = ["version", "aliases", "answers", "format", "bits", "size, MB", "loaded", "last served"]


@dataclass(frozen=True)
class _Layout:
    """The components of the part."""

    note: gr.Markdown
    table: gr.Dataframe
    version: gr.Dropdown
    promote: gr.Button
    back: gr.Button
    outcome: gr.Textbox
    same: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What shows the versions; `_show` has its values."""
        return [self.note, self.table, self.version]


def add(api: Api, blocks: gr.Blocks, models: ModelsTab) -> None:
    """Add the part to the tab."""
    layout = _lay_out()

    async def show(visitor: gr.Request, chosen: str | None) -> tuple[Any, ...]:
        return await _show(api, visitor, chosen)

    async def promote(chosen: str | None, model: str | None, visitor: gr.Request) -> tuple[Any, ...]:
        number = (chosen or "").rpartition("@")[2]
        done = await _put(api, visitor, chosen, "promote", {"version": number})
        return *done, *await show(visitor, chosen), *await models.show(visitor, model)

    async def roll_back(chosen: str | None, model: str | None, visitor: gr.Request) -> tuple[Any, ...]:
        done = await _put(api, visitor, chosen, "rollback", None)
        return *done, *await show(visitor, chosen), *await models.show(visitor, model)

    layout.table.select(first_cell, None, layout.version, api_visibility="private")
    for button, act in ((layout.promote, promote), (layout.back, roll_back)):
        button.click(
            act, [layout.version, models.name], [layout.outcome, layout.same, *layout.shown, *models.shown],
            api_visibility="private",
        )  # fmt: skip
    for event in (models.refresh.click, blocks.load):
        event(show, layout.version, layout.shown, show_progress="hidden", api_visibility="private")


def _lay_out() -> _Layout:
    note = gr.Markdown(elem_id="versions-note")
    table = text_table(_COLUMNS, "Versions", "versions-table", search=True)
    with gr.Row():
        version = gr.Dropdown(label="Version", choices=[], interactive=True, elem_id="versions-name", scale=3)
        promote = gr.Button("Promote", min_width=90)
        back = gr.Button("Roll back", min_width=90)
    outcome = gr.Textbox(label="Outcome", interactive=False, elem_id="versions-outcome")
    return _Layout(note, table, version, promote, back, outcome, command_line("versions"))


async def _show(api: Api, visitor: gr.Request, chosen: str | None) -> tuple[Any, ...]:
    """The versions as they are now."""
    try:
        there = (await api.get("/versions/available", visitor))["versions"]
    except gr.Error:
        return "The registry of versions cannot be read now; the server's log says why.", [], gr.skip()
    return _note(there), [_row(each) for each in there], choice_of([each["name"] for each in there], chosen)


async def _put(
    api: Api, visitor: gr.Request, chosen: str | None, action: str, body: dict[str, Any] | None
) -> tuple[str, str]:
    """Promote or roll back; which versions answer now and before, and the same in a terminal."""
    there = (await api.get("/versions/available", visitor))["versions"]
    names = {each["name"]: each["model"] for each in there}
    if chosen not in names:
        raise page_error("choose a version")
    path = model_path(names[chosen], action)
    answer = await api.post(path, visitor, body)
    text = f"{answer['name']} is answered by {_shares(answer['now'])}; before: {_shares(answer['before'])}."
    return text, api.curl("POST", path, visitor, body)


def _note(versions: Sequence[dict[str, Any]]) -> str:
    if not versions:
        return "There are no versions yet. A run that is tracked makes one of every set of weights that it measures."
    return (
        "Promoting loads a version beside the present one, gives it the alias champion and lets it answer the name. "
        "Rolling back does the same with the champion before. No request is dropped."
    )


def _shares(shares: dict[str, float]) -> str:
    if len(shares) == 1:
        return next(iter(shares))
    return ", ".join(f"{name} ({share:.0%})" for name, share in shares.items())


def _row(version: dict[str, Any]) -> list[str]:
    form = " ".join(word for word in (version["format"], version["method"]) if word)
    was = [f"was {alias}" for alias in version["was"]]
    return [
        version["name"],
        ", ".join([*version["aliases"], *was]),
        f"{version['share']:.0%} of {version['model']}" if version["share"] else "",
        form,
        f"{version['bits']:g}" if version["bits"] else "",
        f"{version['size_mb']:,.0f}" if version["size_mb"] else "",
        "yes" if version["loaded"] else "",
        version["served_at"][:16].replace("T", " "),
    ]

"""Parts that several tabs have."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .api import Api


def command_line(tab: str) -> gr.Textbox:
    """A line that shows how the same is done in a terminal."""
    return gr.Textbox(
        label="The same in a terminal", interactive=False, buttons=["copy"], elem_classes="command",
        elem_id=f"{tab}-command",
    )  # fmt: skip


async def model_names(api: Api, visitor: gr.Request) -> list[str]:
    """Names of the models that can be asked; loaded ones first."""
    there: list[dict[str, Any]] = (await api.get("/models/available", visitor))["models"]
    usable = [model for model in there if not model["problem"]]
    return [model["name"] for model in sorted(usable, key=lambda model: not model["loaded"])]

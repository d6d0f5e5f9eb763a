"""Puts the page together: its tabs, its look, and the application that serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator

# Before Gradio is imported, which would report each start to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from .api import Api
from .config import PATH, PageConfig
from .finished_runs import find_run
from .jobs import Jobs
from .streams import SCRIPT
from .tabs import arena, batch, chat, compare, models, runs, server

_FONT = ["system-ui", "sans-serif"]  # the default ones come from another machine
_MONO = ["ui-monospace", "monospace"]
# Gradio puts its own container before each rule of `css`, where this one lies outside of it.
_HEAD = "<style>@media (max-width: 640px) { .gradio-container > .main { padding: 8px !important; } }</style>"
_CSS = """
th, th * { white-space: nowrap !important; }
.command textarea { font-family: ui-monospace, monospace; font-size: 0.85em; }
.prose table {
  display: block; width: max-content; max-width: 100%; overflow-x: auto; border: 0 !important; padding: 0 !important;
}
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 1px; }
/* The arrow of a list lies over the end of its field. */
input[role=combobox] { padding-right: 24px !important; text-overflow: ellipsis; }
#arena-answers hr { margin: 0.5em 0; }
.placeholder-content { padding: 0 1em; text-align: center; }
@media (max-width: 640px) {
  #arena-answers > *, #arena-blind { min-width: 100% !important; }
  .table-wrap .cell-wrap { max-width: 55vw; overflow-wrap: anywhere; }
}
"""


def create_page(config: PageConfig) -> FastAPI:
    """The application, which answers paths that begin with `PATH`."""
    api, jobs = Api(config.url, config.certfile), Jobs()
    with gr.Blocks(title="lqmf-runner", analytics_enabled=False, fill_width=True) as blocks:
        with gr.Tab("Chat", id="chat"):
            chat.add(api, blocks)
        with gr.Tab("Models", id="models"):
            models.add(api, config, jobs, blocks)
        with gr.Tab("Arena", id="arena"):
            arena.add(api, config, blocks)
        with gr.Tab("Compare", id="compare"):
            compare.add(api, config, jobs, blocks)
        with gr.Tab("Batch", id="batch"):
            batch.add(api, jobs, blocks)
        with gr.Tab("Runs", id="runs"):
            runs.add(config, blocks)
        with gr.Tab("Server", id="server"):
            server.add(api, config, blocks)
    blocks.queue(default_concurrency_limit=None, api_open=False)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await jobs.close()
            await api.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get(f"{PATH}/runs/{{date}}/{{time}}/report.html")
    def report(date: str, time: str) -> FileResponse:
        """The report of a run, a page without scripts."""
        run = find_run(config.outputs, f"{date}/{time}")
        if run is None or not (run.folder / "report.html").is_file():
            raise HTTPException(404)
        return FileResponse(run.folder / "report.html")

    return gr.mount_gradio_app(
        app,
        blocks,
        PATH,
        footer_links=["settings"],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=config.max_upload_bytes,
        theme=gr.themes.Default(font=_FONT, font_mono=_MONO),
        css=_CSS,
        head=_HEAD + SCRIPT,
    )

"""The tab Batch: a file of questions is answered by a model of the server, and comes back as a file."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from ...config.texts import quoted
from ...errors import UserInputError
from ...runs.batch.columns import ColumnNotClearError
from ...runs.batch.input import BadLine, BatchFile, open_batch
from ...types import SamplingParams
from ..api import Api, key_of, page_error
from ..config import PageConfig
from ..jobs import Jobs
from ..parts import command_line, model_names
from ..text import code_block, command

_KEY_VARIABLE = "LQMF_PAGE_KEY"
_SHOWN = 3
_LONGEST = 300


def add(api: Api, config: PageConfig, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Add the tab."""
    with gr.Row():
        file = gr.File(label="CSV, JSONL or text with a prompt a line", elem_id="batch-file", scale=2)
        model = gr.Dropdown(label="Model", choices=[], elem_id="batch-model")
        column = gr.Dropdown(label="Column of the prompts", choices=[], elem_id="batch-column")
        most = gr.Number(
            512, label="Most tokens of an answer", precision=0, minimum=1, elem_id="batch-tokens"
        )
    preview = gr.Dataframe(
        headers=["line", "prompt"], datatype="str", interactive=False, wrap=True, label=f"The first {_SHOWN}",
        elem_id="batch-preview",
    )  # fmt: skip
    with gr.Row():
        start = gr.Button("Answer all", variant="primary")
        cancel = gr.Button("Cancel", variant="stop")
    progress = gr.Markdown(elem_id="batch-progress")
    answers = gr.File(label="Answers", interactive=False, elem_id="batch-answers")
    same = command_line("batch")
    running = gr.State(None)

    async def look(path: str | None) -> Any:
        """The columns of a new file, with the one that is likely to have the prompts."""
        if path is None:
            return gr.Dropdown(choices=[], value=None)
        try:
            source = open_batch(Path(path))
        except ColumnNotClearError as error:
            return gr.Dropdown(choices=list(error.names), value=None)
        except UserInputError as error:
            raise _as_page_error(error, path) from None
        return gr.Dropdown(choices=source.columns(), value=source.prompt_field)

    async def show(path: str | None, column: str | None) -> list[list[str]]:
        return [] if path is None or not column else _preview(_opened(path, column))

    async def answer(
        visitor: gr.Request, path: str | None, model: str, column: str | None, most: int
    ) -> AsyncIterator[tuple[Any, ...]]:
        if path is None or not column:
            raise page_error("upload a file and choose the column of the prompts")
        if model not in await model_names(api, visitor):
            raise page_error("choose one of the models")
        total = sum(1 for _ in _opened(path, column).records())
        # A visitor's words are quoted: nothing in them is resolved, and no file of this machine is read.
        settings = [f"mode.prompt_field={quoted(column)}", f"mode.sampling.max_tokens={int(most)}"]
        line = command("batch", model, Path(path).name, *settings)
        with tempfile.TemporaryDirectory(prefix="lqmf-batch-") as temporary:
            folder = Path(temporary)
            source = folder / re.sub(r"[^\w.-]", "_", Path(path).name)
            shutil.copyfile(path, source)
            # Through the server: the model is not loaded a second time, and the key's limits hold.
            where = [
                "model=openai", f"backend.base_url={api.url}/v1", f"backend.remote_model={model}",
                f"backend.api_key_env={_KEY_VARIABLE}", "tracking=none", f"output_dir={folder}/runs",
            ]  # fmt: skip
            env = {_KEY_VARIABLE: key_of(visitor) or "none"}
            try:
                job = await jobs.start(["mode=batch", f"mode.input={source}", *settings, *where], env=env)
            except UserInputError as error:
                raise page_error(error.message) from None
            yield job, f"0 of {total:,} answered", None, line
            while (code := await job.ended(0.5)) is None:
                yield job, f"{_answered(folder):,} of {total:,} answered", None, line
            failed = "" if code == 0 else "Not all went well. "
            said = "Cancelled. " if job.cancelled else failed
            text = f"{said}{_answered(folder):,} of {total:,} answered.\n\n{code_block(job.output)}"
            yield None, text, _result(folder, source.stem), line

    async def stop(job: Any) -> str:
        if job is None:
            return "Nothing runs that this page has started."
        await job.cancel()
        return "Cancelled; what was answered is kept."

    async def fill(visitor: gr.Request) -> Any:
        names = await model_names(api, visitor)
        return gr.Dropdown(choices=names, value=next(iter(names), None))

    file.change(look, file, column, api_visibility="private")
    column.change(show, [file, column], preview, api_visibility="private")
    start.click(
        answer, [file, model, column, most], [running, progress, answers, same], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    cancel.click(stop, running, progress, api_visibility="private")
    blocks.load(fill, None, model, api_visibility="private")


def _opened(path: str, column: str) -> BatchFile:
    try:
        return open_batch(Path(path), column)
    except UserInputError as error:
        raise _as_page_error(error, path) from None


def _preview(source: BatchFile) -> list[list[str]]:
    rows = []
    for item in itertools.islice(source.items("", None, SamplingParams()), _SHOWN):
        text = (
            f"⚠ {item.reason}" if isinstance(item, BadLine) else str(item.record.get(source.prompt_field, ""))
        )
        rows.append([str(item.line), text[:_LONGEST]])
    return rows


def _answered(folder: Path) -> int:
    """Lines of the answers so far."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.answers.jsonl"))


def _result(folder: Path, stem: str) -> str | None:
    """The file with the answers: the table if the input was one, else the lines of JSON."""
    found = sorted(folder.glob(f"{stem}.answers*"), key=lambda path: path.suffix == ".jsonl")
    return str(found[0]) if found else None


def _as_page_error(error: UserInputError, path: str) -> gr.Error:
    """The error without the folder of uploads."""
    return page_error(f"{error.message}\n{error.hint or ''}".replace(path, Path(path).name))

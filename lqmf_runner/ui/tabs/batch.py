"""The tab Batch: a file of questions is answered by a model of the server, and comes back as a file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ...config.texts import quoted
from ...errors import UserInputError
from ...runs.batch.columns import ColumnNotClearError
from ...runs.batch.input import JSONL, OPENAI, TEXT, BadLine, BatchFile, open_batch
from ...runs.batch.workbook import is_workbook
from ...types import SamplingParams
from ..api import Api, key_of, page_error
from ..jobs import Job, Jobs
from ..parts import all_names, choice_of, command_line, model_names, offer_versions, text_table
from ..text import code_block, command

_SUFFIXES = {"CSV": ".csv", "XLSX": ".xlsx", "JSONL": ".jsonl"}
_KEY_VARIABLE = "LQMF_PAGE_KEY"
_SHOWN = 3
_LONGEST = 300


@dataclass(frozen=True)
class _Layout:
    """The components of the tab. `running` has the visitor's job, if one is under way."""

    file: gr.File
    model: gr.Dropdown
    column: gr.Dropdown
    most: gr.Number
    kind: gr.Dropdown
    preview: gr.Dataframe
    start: gr.Button
    cancel: gr.Button
    progress: gr.Markdown
    answers: gr.File
    same: gr.Textbox
    running: gr.State


@dataclass(frozen=True)
class _Batch:
    """A file to answer, checked: `settings` are those of the command line that answers it."""

    path: Path
    model: str
    total: int
    settings: list[str]
    suffix: str

    @property
    def line(self) -> str:
        """What does the same in a terminal."""
        answers = f"{self.path.stem}.answers{self.suffix}"
        return command("batch", self.model, self.path.name, *self.settings, f"mode.output={answers}")


def add(api: Api, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout = _lay_out()

    async def show(path: str | None, column: str | None) -> list[list[str]]:
        return [] if path is None or not column else await asyncio.to_thread(_preview, path, column)

    async def answer(
        visitor: gr.Request, path: str | None, model: str, column: str | None, most: int | None, kind: str | None
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        if path is None or not column:
            raise page_error("upload a file and choose the column of the prompts")
        if model not in await all_names(api, visitor):
            raise page_error("choose one of the models")
        if not most:
            raise page_error("say how many tokens an answer may have")
        total, settings = await asyncio.to_thread(_counted, path, column)
        settings += [f"mode.sampling.max_tokens={int(most)}"]
        batch = _Batch(Path(path), model, total, settings, _SUFFIXES[kind or "JSONL"])
        async with contextlib.aclosing(_run(batch, api, visitor, jobs)) as running:
            async for shown in running:
                yield shown

    async def fill(visitor: gr.Request) -> Any:
        return choice_of(await model_names(api, visitor))

    layout.file.change(_look, layout.file, [layout.column, layout.kind], api_visibility="private")
    layout.column.change(show, [layout.file, layout.column], layout.preview, api_visibility="private")
    layout.start.click(
        answer, [layout.file, layout.model, layout.column, layout.most, layout.kind],
        [layout.running, layout.progress, layout.answers, layout.same], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    layout.cancel.click(_cancel, layout.running, layout.progress, api_visibility="private")
    offer_versions(blocks.load(fill, None, layout.model, api_visibility="private"), api, layout.model)


def _lay_out() -> _Layout:
    with gr.Row():
        file = gr.File(label="CSV, XLSX, JSONL or text with a prompt a line", elem_id="batch-file", scale=2)
        model = gr.Dropdown(label="Model", choices=[], elem_id="batch-model")
        column = gr.Dropdown(label="Column of the prompts", choices=[], elem_id="batch-column")
        most = gr.Number(
            512, label="Most tokens of an answer", precision=0, minimum=1, elem_id="batch-tokens"
        )
        kind = gr.Dropdown(label="Answers as", choices=[], elem_id="batch-kind")
    preview = text_table(["line", "prompt"], f"The first {_SHOWN}", "batch-preview")
    with gr.Row():
        start = gr.Button("Answer all", variant="primary")
        cancel = gr.Button("Cancel", variant="stop")
    progress = gr.Markdown(elem_id="batch-progress")
    answers = gr.File(label="Answers", interactive=False, elem_id="batch-answers")
    return _Layout(
        file, model, column, most, kind, preview, start, cancel, progress, answers, command_line("batch"),
        running=gr.State(None),
    )  # fmt: skip


async def _look(path: str | None) -> tuple[Any, Any]:
    """The columns of a new file, with the one that is likely to have the prompts, and the kinds of answers."""
    if path is None:
        return gr.Dropdown(choices=[], value=None), gr.Dropdown(choices=[], value=None)
    try:
        # In a thread: a large workbook takes long, and the server must answer others meanwhile.
        source = await asyncio.to_thread(open_batch, Path(path))
        columns = await asyncio.to_thread(source.columns)
    except ColumnNotClearError as error:
        return gr.Dropdown(choices=list(error.names), value=None), _kinds(path, None)
    except UserInputError as error:
        raise _as_page_error(error, path) from None
    return gr.Dropdown(choices=columns, value=source.prompt_field), _kinds(path, source.format)


async def _run(
    batch: _Batch, api: Api, visitor: gr.Request, jobs: Jobs
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Answer the file in a job, and show how far it is: the job, progress, the answers, the same in a terminal."""
    with tempfile.TemporaryDirectory(prefix="lqmf-batch-") as temporary:
        folder = Path(temporary)
        source = folder / re.sub(r"[^\w.-]", "_", batch.path.name)
        result = source.with_suffix(f".answers{batch.suffix}")
        shutil.copyfile(batch.path, source)
        words = [
            "mode=batch", f"mode.input={source}", *batch.settings, *_through(api, batch.model), "tracking=none",
            f"output_dir={folder}/runs", f"mode.output={result}",
        ]  # fmt: skip
        try:
            job = await jobs.start(words, env={_KEY_VARIABLE: key_of(visitor) or "none"})
        except UserInputError as error:
            raise page_error(error.message) from None
        try:
            yield job, f"0 of {batch.total:,} answered", None, batch.line
            while (code := await job.ended(0.5)) is None:
                yield job, f"{_answered(source):,} of {batch.total:,} answered", None, batch.line
        finally:
            await job.cancel()  # if the visitor has left: nobody else can have the answers
        failed = "" if code == 0 else "Not all went well. "
        said = "Cancelled. " if job.cancelled else failed
        printed = code_block(job.output.replace(f"{folder}/", ""))
        text = f"{said}{_answered(source):,} of {batch.total:,} answered.\n\n{printed}"
        yield None, text, str(result) if result.exists() else None, batch.line


def _through(api: Api, model: str) -> list[str]:
    """Settings that ask the server: the model is not loaded a second time, and the key's limits hold."""
    return [
        "model=openai", f"backend.base_url={api.url}/v1", f"backend.remote_model={quoted(model)}",
        *([f"backend.certfile={api.certfile}"] if api.certfile else []), f"backend.api_key_env={_KEY_VARIABLE}",
    ]  # fmt: skip


async def _cancel(job: Job | None) -> str:
    if job is None:
        return "Nothing runs that this page has started."
    await job.cancel()
    return "Cancelled; what was answered is kept."


def _opened(path: str, column: str) -> tuple[BatchFile, list[str]]:
    """The file, and the settings that its column needs: none, if that is the one that is found without."""
    try:
        with contextlib.suppress(ColumnNotClearError):
            source = open_batch(Path(path))
            if source.prompt_field == column:
                return source, []
        # A visitor's words are quoted: nothing in them is resolved, and no file of this machine is read.
        return open_batch(Path(path), column), [f"mode.prompt_field={quoted(column)}"]
    except UserInputError as error:
        raise _as_page_error(error, path) from None


def _counted(path: str, column: str) -> tuple[int, list[str]]:
    """How many lines there are, and the settings that the column needs."""
    source, settings = _opened(path, column)
    return sum(1 for _ in source.records()), settings


def _preview(path: str, column: str) -> list[list[str]]:
    source, _ = _opened(path, column)
    rows = []
    for item in itertools.islice(source.items("", None, SamplingParams()), _SHOWN):
        text = (
            f"⚠ {item.reason}" if isinstance(item, BadLine) else str(item.record.get(source.prompt_field, ""))
        )
        rows.append([str(item.line), text[:_LONGEST]])
    return rows


def _answered(source: Path) -> int:
    """Lines of the answers so far, which lie beside the questions."""
    answers = (path for path in source.parent.glob("*.answers.jsonl") if path != source)
    return sum(path.read_bytes().count(b"\n") for path in answers)


def _kinds(path: str, format: str | None) -> Any:
    """What the answers may be; a table comes back as the table that it was. `format` is None if a column is missing."""
    if format == OPENAI:
        kinds, usual = ["JSONL"], "JSONL"
    elif format in (JSONL, TEXT):
        kinds, usual = list(_SUFFIXES), "JSONL"
    else:
        kinds, usual = list(_SUFFIXES), "XLSX" if is_workbook(Path(path)) else "CSV"
    return gr.Dropdown(choices=kinds, value=usual)


def _as_page_error(error: UserInputError, path: str) -> gr.Error:
    """The error without the folder of uploads."""
    return page_error(f"{error.message}\n{error.hint or ''}".replace(path, Path(path).name))

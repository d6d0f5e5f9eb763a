"""The part of the tab Models about a split: which of the versions that share a name is better, by what they served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import gradio as gr

from ...config.texts import quoted
from ...errors import UserInputError
from ..api import Api, page_error
from ..config import PATH, PageConfig
from ..finished_runs import find_run
from ..jobs import Jobs
from ..parts import check_role, command_line
from ..text import code_block, command, run_setting
from ..verdicts import in_words

_LOOK_EVERY_S = 1.0


def add(api: Api, config: PageConfig, jobs: Jobs, name: gr.Dropdown) -> None:
    """Add the part.

    Args:
        name: the model that is chosen in the tab.
    """
    judge = gr.Button("Judge by what was served", elem_id="served-judge")
    verdict = gr.Markdown(elem_id="served-verdict")
    same = command_line("served")

    async def on_judge(chosen: str | None, visitor: gr.Request) -> AsyncIterator[tuple[str, str]]:
        check_role(visitor)
        split = [
            each for each, shares in (await api.get("/versions", visitor))["names"].items() if len(shares) > 1
        ]
        model = (chosen or "").partition("@")[0]
        if model not in split:
            others = (
                f"\nsplit are: {', '.join(split)}" if split else "\nPOST /models/{name}/split begins a split"
            )
            wrong = (
                f"the requests for {model} are not split between versions"
                if model
                else "choose a model first"
            )
            raise page_error(f"{wrong}{others}")
        words = ["compare", f"mode.served={quoted(model)}", run_setting([config.folder])]
        run_id = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f-compare")
        own = [f"output_dir={config.outputs}", f"hydra.run.dir={config.outputs / run_id}"]
        own += [] if config.tracking else ["tracking=none"]
        try:
            job = await jobs.start([*words, *own])
        except UserInputError as error:
            raise page_error(f"{error.message}\n{error.hint}") from None
        line = command(*words)
        while (code := await job.ended(_LOOK_EVERY_S)) is None:
            yield f"Judging the versions of {model} …", line
        run = await asyncio.to_thread(find_run, config.outputs, run_id) if code == 0 else None
        if run is None:
            yield f"It failed:\n\n{code_block(job.output)}", line
            return
        report = f"**[Open the report]({PATH}/runs/{run_id}/report.html)**"
        yield f"{in_words(run.results.verdict)}\n\n{report}", line

    judge.click(on_judge, name, [verdict, same], show_progress="hidden", api_visibility="private")

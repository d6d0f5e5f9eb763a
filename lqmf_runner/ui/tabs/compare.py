"""The tab Compare: measure several models, and see at once which one other limits and weights would choose."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from ...config import VerdictConfig, WeightsConfig
from ...errors import UserInputError
from ...results.files import RESULTS, read_results
from ..api import Api, page_error
from ..config import PATH, PageConfig
from ..finished_runs import find_run, list_runs
from ..jobs import Jobs
from ..parts import command_line, model_names
from ..text import code_block, command
from ..verdicts import in_words, judge, table

_LOOK_EVERY_S = 1.0


def add(api: Api, config: PageConfig, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Add the tab."""
    with gr.Row():
        models = gr.Dropdown(label="Models", choices=[], multiselect=True, elem_id="compare-models", scale=3)
        reference = gr.Dropdown(
            label="Reference, for the fidelity", choices=[""], value="", elem_id="compare-reference"
        )
        users = gr.Textbox("1,8", label="Users at once", elem_id="compare-users")
        requests = gr.Number(16, label="Requests a load", precision=0, minimum=1, elem_id="compare-requests")
    with gr.Row():
        start = gr.Button("Measure", variant="primary", elem_id="compare-start")
        cancel = gr.Button("Cancel", variant="stop", elem_id="compare-cancel")
    progress = gr.Markdown(elem_id="compare-progress")
    chosen = gr.Dropdown(label="Results of", choices=[], elem_id="compare-run")
    with gr.Row():
        kld = gr.Slider(0, 1, 1, step=0.005, label="KLD at most (1: any)", elem_id="compare-kld")
        memory = gr.Slider(
            0, 32000, 0, step=10, label="Memory at most, MB (0: any)", elem_id="compare-memory"
        )
        ttft = gr.Slider(0, 5, 0, step=0.05, label="TTFT at most, s (0: any)", elem_id="compare-ttft")
        speed = gr.Slider(0, 1000, 0, step=5, label="tok/s at least", elem_id="compare-speed")
        load = gr.Slider(
            1, 64, 1, step=1, label="Users at once, the nearest that was measured", elem_id="compare-load"
        )
    with gr.Row():
        weights = [
            gr.Slider(0, 4, 1, step=0.5, label=f"Weight of {name}")
            for name in ("speed", "memory", "fidelity")
        ]
    verdict = gr.Markdown(elem_id="compare-verdict")
    figures = gr.Dataframe(
        datatype="str", interactive=False, wrap=True, label="In order", elem_id="compare-table"
    )
    same = command_line("compare")
    running = gr.State(None)

    async def measure(
        visitor: gr.Request, names: list[str], reference: str, users: str, requests: int
    ) -> AsyncIterator[tuple[Any, ...]]:
        _check_role(visitor)
        known = await model_names(api, visitor)
        if len(names or []) < 2 or not {*names, *([reference] if reference else [])} <= {*known}:
            raise page_error("choose two models or more")
        numbers = [word.strip() for word in users.split(",")]
        if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 1024 for word in numbers):
            raise page_error("users at once are numbers from 1 to 1024, with commas between them")
        settings = [
            f"models=[{','.join(names)}]", f"mode.concurrency=[{','.join(numbers)}]", f"mode.requests={int(requests)}",
            *([f"reference={reference}"] if reference else []),
        ]  # fmt: skip
        run_id = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f-compare")
        folder = config.outputs / run_id
        own = [f"models_dir={config.models_dir}", f"output_dir={config.outputs}", f"hydra.run.dir={folder}"]
        own += [] if config.tracking else ["tracking=none"]
        line = command("mode=compare", *settings)
        job = await jobs.start(["mode=compare", *settings, *own])
        began = time.monotonic()
        yield job, "Starting …", line, gr.Dropdown()
        while (code := await job.ended(_LOOK_EVERY_S)) is None:
            yield (
                job,
                _progress(folder, len(names), len(numbers), time.monotonic() - began),
                line,
                gr.Dropdown(),
            )
        if code == 0:
            text = f"Done in {time.monotonic() - began:.0f} s. **[Open the report]({PATH}/runs/{run_id}/report.html)**"
        elif job.cancelled:
            text = "Cancelled; what was measured is kept."
        else:
            text = f"It failed:\n\n{code_block(job.output)}"
        there = (folder / RESULTS).exists()
        yield None, text, line, gr.Dropdown(choices=_ids(config), value=run_id) if there else gr.Dropdown()

    async def stop(job: Any) -> str:
        if job is None:
            return "Nothing runs that this page has started."
        await job.cancel()
        return "Cancelled; what was measured is kept."

    async def decide(name: str | None, *given: float) -> tuple[str, Any, str]:
        run = find_run(config.outputs, name) if name else None
        if run is None:
            return "", None, ""
        measured = run.results.models
        limits = _limits(measured, *given)
        try:
            drawn = judge(measured, limits)
        except UserInputError as error:
            raise page_error(f"{error.message}\n{error.hint}") from None
        order = [each.name for each in drawn.models] if drawn else []
        misses = (
            {each.name: ", ".join(miss.text for miss in each.misses) for each in drawn.models}
            if drawn
            else {}
        )
        models = sorted(measured, key=lambda model: order.index(model.name))
        words = [f"verdict.{key}={value:g}" for key, value in limits.bounds.items()]
        line = command("mode=compare", f"models=[{','.join(model.name for model in measured)}]", *words)
        return in_words(drawn), table(models, limits.concurrency, misses), line

    async def fill(visitor: gr.Request) -> tuple[Any, ...]:
        names = await model_names(api, visitor)
        ids = _ids(config)
        return (
            gr.Dropdown(choices=names),
            gr.Dropdown(choices=["", *names]),
            gr.Dropdown(choices=ids, value=next(iter(ids), None)),
        )

    start.click(
        measure, [models, reference, users, requests], [running, progress, same, chosen], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    cancel.click(stop, running, progress, api_visibility="private")
    limits = [kld, memory, ttft, speed, load, *weights]
    for changed in (chosen, *limits):
        changed.change(
            decide, [chosen, *limits], [verdict, figures, same], show_progress="hidden", trigger_mode="always_last",
            api_visibility="private",
        )  # fmt: skip
    blocks.load(fill, None, [models, reference, chosen], api_visibility="private")


def _check_role(visitor: gr.Request) -> None:
    """Starting a run costs as much as loading a model, and wants the same role."""
    key = visitor.request.scope["state"].get("api_key")
    if key is not None and not key.admin:
        raise page_error("this key may not start runs; use a key with the role admin")


def _ids(config: PageConfig) -> list[str]:
    return [run.id for run in list_runs(config.outputs) if len(run.results.models) > 1]


def _limits(
    models: Any, kld: float, memory: float, ttft: float, speed: float, load: float, *weights: float
) -> VerdictConfig:
    """What the sliders say; a slider at its end does not bind."""
    given = {
        "max_kld": kld if kld < 1 else None, "max_memory_mb": memory or None, "max_ttft_s": ttft or None,
        "min_tokens_per_s": speed or None,
    }  # fmt: skip
    measured = {each.shape.concurrency for model in models for each in model.loads if each.shape.concurrency}
    users = min(measured, key=lambda n: (abs(n - load), n), default=None)
    if not any(weights):
        weights = (1, 1, 1)
    return VerdictConfig(concurrency=users, weights=WeightsConfig(*weights), **given)


def _progress(folder: Path, models: int, loads: int, elapsed_s: float) -> str:
    """How many loads are measured, from what the run has written so far, and how long the rest may take."""
    try:
        done = sum(len(model.loads) for model in read_results(folder).models)
    except UserInputError:
        done = 0
    total = models * loads
    if not done:
        return f"{elapsed_s:.0f} s · loading, and the reference if there is one"
    left = elapsed_s / done * (total - done)
    return f"{elapsed_s:.0f} s · {done} of {total} loads measured · about {left:.0f} s left, fidelity apart"

"""The tab Compare: measure several models, and see at once which one other limits and weights would choose."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from ...config import VerdictConfig, WeightsConfig
from ...config.texts import quoted
from ...errors import UserInputError
from ...results.files import read_results
from ..api import Api, page_error
from ..config import PATH, PageConfig
from ..finished_runs import Run, find_run, list_runs
from ..jobs import Job, Jobs
from ..parts import all_names, check_role, choice_of, command_line, model_names, offer_versions, text_table
from ..text import code_block, command, run_setting
from ..verdicts import in_words, judge, table

_LOOK_EVERY_S = 1.0
_CANCELLED = "Cancelled; what was measured is kept."


@dataclass(frozen=True, eq=False)
class _Comparison:
    """A run that a visitor has started. `line` does the same in a terminal; `loads` are those of each model."""

    job: Job
    run_id: str
    line: str
    models: int
    loads: int
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began


@dataclass(frozen=True)
class _Layout:
    """The components of the tab. `running` has the visitor's comparison, if one is under way."""

    models: gr.Dropdown
    reference: gr.Dropdown
    users: gr.Textbox
    requests: gr.Number
    start: gr.Button
    cancel: gr.Button
    progress: gr.Markdown
    chosen: gr.Dropdown
    limits: list[gr.Slider]
    verdict: gr.Markdown
    figures: gr.Dataframe
    same: gr.Textbox
    running: gr.State

    @property
    def shown(self) -> list[Any]:
        """What a comparison under way changes; `_Measuring.follow` has its values."""
        return [self.running, self.progress, self.same, self.chosen]


def add(api: Api, config: PageConfig, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout = _lay_out()
    measuring = _Measuring(api, config, jobs)

    def decide(name: str | None, *given: float) -> tuple[str, Any, str]:
        run = find_run(config.outputs, name) if name else None
        return _decide(run, *given) if run is not None else ("", None, "")

    async def fill(visitor: gr.Request) -> tuple[Any, ...]:
        names, ids = await model_names(api, visitor), await asyncio.to_thread(_ids, config)
        return gr.Dropdown(choices=names), gr.Dropdown(choices=["", *names]), choice_of(ids)

    layout.start.click(
        measuring.start, [layout.models, layout.reference, layout.users, layout.requests], layout.shown,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    layout.cancel.click(_cancel, layout.running, layout.progress, api_visibility="private")
    gr.on(  # one listener, so that no earlier answer arrives after a later one
        [layout.chosen.change, *(limit.change for limit in layout.limits)], decide, [layout.chosen, *layout.limits],
        [layout.verdict, layout.figures, layout.same], show_progress="hidden", trigger_mode="always_last",
        api_visibility="private",
    )  # fmt: skip
    filled = blocks.load(
        fill, None, [layout.models, layout.reference, layout.chosen], api_visibility="private"
    )
    blocks.load(measuring.resume, None, layout.shown, show_progress="hidden", api_visibility="private")
    offer_versions(filled, api, layout.models)
    offer_versions(filled, api, layout.reference, blank=True)


def _lay_out() -> _Layout:
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
    limits = _lay_out_limits()
    verdict = gr.Markdown(elem_id="compare-verdict")
    figures = text_table(["model"], "In order", "compare-table")
    return _Layout(
        models, reference, users, requests, start, cancel, progress, chosen, limits, verdict, figures,
        command_line("compare"), running=gr.State(None),
    )  # fmt: skip


def _lay_out_limits() -> list[gr.Slider]:
    """The sliders, in the order in which `_limits` takes them."""
    with gr.Row():
        bounds = [
            gr.Slider(0, 1, 1, step=0.005, label="KLD at most (1: any)", elem_id="compare-kld"),
            gr.Slider(0, 32000, 0, step=10, label="Memory at most, MB (0: any)", elem_id="compare-memory"),
            gr.Slider(0, 5, 0, step=0.05, label="TTFT at most, s (0: any)", elem_id="compare-ttft"),
            gr.Slider(0, 1000, 0, step=5, label="tok/s at least", elem_id="compare-speed"),
            gr.Slider(
                1, 64, 1, step=1, label="Users at once, the nearest that was measured", elem_id="compare-load"
            ),
        ]
    with gr.Row():
        weights = [
            gr.Slider(0, 4, 1, step=0.5, label=f"Weight of {name}")
            for name in ("speed", "memory", "fidelity")
        ]
    return [*bounds, *weights]


class _Measuring:
    """Starts comparisons as jobs of the page, and shows visitors how far they are."""

    def __init__(self, api: Api, config: PageConfig, jobs: Jobs) -> None:
        self._api = api
        self._config = config
        self._jobs = jobs
        self._comparisons: list[_Comparison] = []

    async def start(
        self, visitor: gr.Request, names: list[str], reference: str, users: str, requests: int | None
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Measure models, and show how far it is."""
        check_role(visitor)
        known = await all_names(self._api, visitor)
        if len(names or []) < 2 or not {*names, *([reference] if reference else [])} <= {*known}:
            raise page_error("choose two models or more")
        concurrency = _concurrency(users)
        if not requests:
            raise page_error("say how many requests a load has")
        settings = [
            "compare", *names, f"mode.concurrency=[{','.join(concurrency)}]", f"mode.requests={int(requests)}",
            *([f"reference={quoted(reference)}"] if reference else []),
        ]  # fmt: skip
        run_id = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f-compare")
        job = await self._job(settings, run_id)
        current = _Comparison(job, run_id, command(*settings), len(names), len(concurrency))
        self._comparisons.append(current)
        async for shown in self.follow(current):
            yield shown

    async def resume(self) -> AsyncIterator[tuple[Any, ...]]:
        """After the page was opened again, go on with the newest one that is under way."""
        current = next((each for each in reversed(self._comparisons) if each.job.running), None)
        if current is None:
            yield (gr.skip(),) * 4  # Gradio empties the outputs of what yields nothing
            return
        async for shown in self.follow(current):
            yield shown

    async def follow(self, current: _Comparison) -> AsyncIterator[tuple[Any, ...]]:
        """Show how far it is until it has ended. Its visitor may leave and come back."""
        job, line, folder = current.job, current.line, self._config.outputs / current.run_id
        while (code := await job.ended(_LOOK_EVERY_S)) is None:
            yield current, await asyncio.to_thread(_progress, folder, current), line, gr.Dropdown()
        if code == 0:
            report = f"{PATH}/runs/{current.run_id}/report.html"
            text = f"Done in {current.elapsed_s:.0f} s. **[Open the report]({report})**"
        elif job.cancelled:
            text = _CANCELLED
        else:
            text = f"It failed:\n\n{code_block(job.output)}"
        ids = await asyncio.to_thread(
            _ids, self._config
        )  # not this run, if it was cancelled before its second model
        there = current.run_id in ids
        yield None, text, line, gr.Dropdown(choices=ids, value=current.run_id) if there else gr.Dropdown()

    async def _job(self, settings: list[str], run_id: str) -> Job:
        outputs = self._config.outputs
        own = [
            f"models_dir={self._config.models_dir}",
            f"output_dir={outputs}",
            f"hydra.run.dir={outputs / run_id}",
        ]
        own += [] if self._config.tracking else ["tracking=none"]
        try:
            return await self._jobs.start([*settings, *own])
        except UserInputError as error:
            raise page_error(f"{error.message}\n{error.hint}") from None


async def _cancel(visitor: gr.Request, current: _Comparison | None) -> str:
    if current is None:
        return "Nothing runs that this page has started."
    check_role(visitor)
    await current.job.cancel()
    return _CANCELLED


def _decide(run: Run, *given: float) -> tuple[str, Any, str]:
    """What the sliders make of a run: the verdict in words, the models in order, the same in a terminal."""
    measured = run.results.models
    limits = _limits(measured, *given)
    try:
        drawn = judge(measured, limits)
    except UserInputError as error:
        raise page_error(f"{error.message}\n{error.hint}") from None
    ranked = drawn.models if drawn else []
    order = [each.name for each in ranked]
    misses = {each.name: ", ".join(miss.text for miss in each.misses) for each in ranked}
    models = sorted(measured, key=lambda model: order.index(model.name))
    return in_words(drawn), table(models, limits.concurrency, misses), _verdict_line(run, limits)


def _concurrency(users: str) -> list[str]:
    """How many users each load has, from what the visitor has typed."""
    numbers = [word.strip() for word in users.split(",")]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 1024 for word in numbers):
        raise page_error("users at once are numbers from 1 to 1024, with commas between them")
    return numbers


def _ids(config: PageConfig) -> list[str]:
    """Runs that measured several models. Served versions have a verdict of their own, which no slider changes."""
    return [
        run.id
        for run in list_runs(config.outputs)
        if len(run.results.models) > 1
        and not any(load.shape.kind == "served" for model in run.results.models for load in model.loads)
    ]


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


def _verdict_line(run: Run, limits: VerdictConfig) -> str:
    """What judges the same results by the same limits, and measures nothing."""
    words = [f"verdict.{key}={value:g}" for key, value in limits.bounds.items()]
    words += [f"verdict.concurrency={limits.concurrency}"] if limits.concurrency else []
    usual = WeightsConfig()
    words += [
        f"verdict.weights.{name}={value:g}"
        for name, value in dataclasses.asdict(limits.weights).items()
        if value != getattr(usual, name)
    ]
    return command("compare", run_setting([run.folder]), *words)


def _progress(folder: Path, current: _Comparison) -> str:
    """How many loads are measured, from what the run has written so far, and how long the rest may take."""
    try:
        done = sum(len(model.loads) for model in read_results(folder).models)
    except UserInputError:
        done = 0
    elapsed_s = current.elapsed_s
    total = current.models * current.loads
    if not done:
        return f"{elapsed_s:.0f} s · loading, and the reference if there is one"
    left = elapsed_s / done * (total - done)
    return f"{elapsed_s:.0f} s · {done} of {total} loads measured · about {left:.0f} s left, fidelity apart"

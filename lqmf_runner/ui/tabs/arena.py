"""The tab Arena: one question to several models side by side, where their answers part, and a vote."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import os
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ..api import Api, paced, page_error
from ..config import PageConfig
from ..finished_runs import measured_kld
from ..parts import command_line, model_names, offer_versions
from ..stops import Stops
from ..text import as_markdown, command, speed
from ..votes import NONE, TIE, count_votes, keep_vote

_MOST = 4
_LETTERS = "ABCD"
_SHOW_EVERY_S = 0.1


@dataclass
class Answer:
    """What has come of one model's answer. `line` says how fast it was, or what went wrong."""

    model: str
    text: str = ""
    line: str = "waiting for the first token …"
    ended: bool = False
    failed: bool = False


@dataclass
class Round:
    """A question and its answers, in the order of the columns; `voted` shows the names of the models.

    Attributes:
        running: answers are still coming; nothing can be chosen yet.
    """

    id: str = ""
    question: str = ""
    answers: list[Answer] = field(default_factory=list)
    blind: bool = True
    voted: bool = False
    running: bool = False

    @property
    def models(self) -> list[str]:
        """Who answers."""
        return [answer.model for answer in self.answers]

    def stop(self) -> None:
        """End what has not ended. What has been said until then can be voted on."""
        self.running = False
        for answer in self.answers:
            if not answer.ended:
                answer.line, answer.failed = "stopped by you", not answer.text

    @property
    def titles(self) -> list[str]:
        """Heads of the columns."""
        shown = not self.blind or self.voted
        return [
            f"{letter}: {model}" if shown else letter
            for letter, model in zip(_LETTERS, self.models, strict=False)
        ]


@dataclass(frozen=True)
class _Layout:
    """The components of the tab. `columns` are the answers, `votes` the buttons below them."""

    state: gr.State
    models: gr.Dropdown
    blind: gr.Checkbox
    most: gr.Number
    question: gr.Textbox
    go: gr.Button
    stop: gr.Button
    columns: list[gr.Markdown]
    parts_at: gr.Markdown
    votes: list[gr.Button]
    tie: gr.Button
    none: gr.Button
    outcome: gr.Markdown
    counted: gr.Dataframe
    same: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What a round changes; `_shown` has its values."""
        return [*self.columns, *self.votes]


def add(api: Api, config: PageConfig, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout, stops = _lay_out(), Stops()
    state, shown = layout.state, layout.shown

    async def ask(
        visitor: gr.Request, chosen: list[str], blind: bool, most: int | None, question: str
    ) -> AsyncIterator[tuple[Any, ...]]:
        current, most = _begin(chosen, blind, most, question)
        line = command(
            "chat", chosen[0], question, f"mode.sampling.max_tokens={most}", "mode.sampling.temperature=0"
        )
        with stops.answering(visitor) as stop:
            async with contextlib.aclosing(_answers(api, visitor, current, most, stop)) as looks:
                async for _ in looks:
                    yield current, "", line, "", *_shown(current)
            if not current.blind:
                await _add_kld(current, config)
            yield current, _parting(current), line, "", *_shown(current)

    async def vote(current: Round, index: int) -> tuple[Any, ...]:
        text = await _vote(current, index, config)
        return current, text, await asyncio.to_thread(count_votes, config.outputs), *_shown(current)

    async def fill(visitor: gr.Request) -> tuple[Any, ...]:
        names = await model_names(api, visitor)
        votes = await asyncio.to_thread(count_votes, config.outputs)
        return gr.Dropdown(choices=names, value=names[:2]), votes

    layout.go.click(
        ask, [layout.models, layout.blind, layout.most, layout.question],
        [state, layout.parts_at, layout.same, layout.outcome, *shown], show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    layout.stop.click(stops.end, None, None, show_progress="hidden", api_visibility="private")
    for index, button in enumerate((*layout.votes, layout.tie, layout.none)):
        button.click(
            functools.partial(vote, index=index), state, [state, layout.outcome, layout.counted, *shown],
            api_visibility="private",
        )  # fmt: skip
    filled = blocks.load(fill, None, [layout.models, layout.counted], api_visibility="private")
    offer_versions(filled, api, layout.models)


def _lay_out() -> _Layout:
    with gr.Row():
        models = gr.Dropdown(
            label=f"Models, 2 to {_MOST}", choices=[], multiselect=True, max_choices=_MOST, elem_id="arena-models",
            scale=3,
        )  # fmt: skip
        blind = gr.Checkbox(True, label="Blind: names after the vote", elem_id="arena-blind", min_width=240)
        most = gr.Number(256, label="Most tokens", precision=0, minimum=1)
    question = gr.Textbox("", label="Question", lines=2, elem_id="arena-question")
    with gr.Row():
        go = gr.Button("Ask all", variant="primary", elem_id="arena-ask")
        stop = gr.Button("Stop all", variant="stop")
    with gr.Row(elem_id="arena-answers"):
        columns = [
            gr.Markdown(visible=index < 2, elem_id=f"arena-{index}", container=True) for index in range(_MOST)
        ]
    parts_at = gr.Markdown(elem_id="arena-parts")
    with gr.Row():
        votes = [gr.Button(f"{letter} is better", visible=index < 2) for index, letter in enumerate(_LETTERS)]
        tie, none = gr.Button("Both are good"), gr.Button("None is good")
    outcome = gr.Markdown(elem_id="arena-outcome")
    counted = gr.Dataframe(
        headers=["model", "rounds", "wins", "ties", "losses", "wins while blind"], datatype="str", interactive=False,
        label="Votes so far", elem_id="arena-votes",
    )  # fmt: skip
    return _Layout(
        gr.State(Round()), models, blind, most, question, go, stop, columns, parts_at, votes, tie, none, outcome,
        counted, command_line("arena"),
    )  # fmt: skip


def _begin(chosen: list[str], blind: bool, most: int | None, question: str) -> tuple[Round, int]:
    """A round that has no answers yet, and how many tokens each may have; what it lacks is a page error."""
    if not 2 <= len(chosen or []) <= _MOST or not question.strip():
        raise page_error(f"choose 2 to {_MOST} models and ask something")
    if not most:
        raise page_error("say how many tokens an answer may have")
    order = random.sample(chosen, len(chosen)) if blind else chosen
    return Round(uuid.uuid4().hex, question, [Answer(model) for model in order], blind, running=True), most


async def _answers(
    api: Api, visitor: gr.Request, current: Round, most: int, stop: asyncio.Event
) -> AsyncGenerator[None, None]:
    """Fill in all columns at the same time, and pause for each look at them. A model that fails says so in its line.

    Args:
        stop: ends all answers once it is set.
    """
    answering = [
        asyncio.create_task(_answer(api, visitor, current.question, answer, most))
        for answer in current.answers
    ]
    try:
        while not (stop.is_set() or all(task.done() for task in answering)):
            await asyncio.wait(answering, timeout=_SHOW_EVERY_S, return_when=asyncio.ALL_COMPLETED)
            yield
    finally:
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
    for answer, task in zip(current.answers, answering, strict=True):
        if not task.cancelled() and (error := task.exception()) is not None:
            text = html.unescape(error.message) if isinstance(error, gr.Error) else str(error)
            answer.line, answer.ended, answer.failed = f"⚠ {text}", True, True
    current.stop()


async def _vote(current: Round, index: int, config: PageConfig) -> str:
    """Keep the vote of a round, whose names are shown from now on; what came of it.

    Args:
        index: of the button: the models, then a tie, then none.
    """
    if not current.answers:
        raise page_error("there are no answers to choose between yet")
    if current.running:
        raise page_error("the answers are still coming: vote when all have ended, or stop them")
    if failed := [letter for letter, answer in zip(_LETTERS, current.answers, strict=False) if answer.failed]:
        raise page_error(
            f"{' and '.join(failed)} gave no answer, so that there is nothing to compare: ask again"
        )
    choices = [*current.models, *[None] * (_MOST - len(current.answers)), TIE, NONE]
    if (winner := choices[index]) is None:
        raise page_error("no model has answered there")
    unseen = current.blind and not current.voted
    try:
        new = await asyncio.to_thread(
            keep_vote, config.outputs, current.id, current.question, current.models, winner, blind=unseen
        )
    except OSError as error:
        raise page_error(f"the vote cannot be kept: {os.strerror(error.errno or 0)}") from None
    if unseen:
        await _add_kld(current, config)  # before the vote it would name the model
    current.voted = True
    return "Counted." if new else "This round has its vote already; it is counted once."


async def _add_kld(current: Round, config: PageConfig) -> None:
    """The measured KL divergence beside each answer."""
    kld = await asyncio.to_thread(measured_kld, config.outputs)
    for answer in current.answers:
        if answer.model in kld and not answer.failed:
            answer.line += f" · measured KLD {kld[answer.model]:.3f}"


async def _answer(api: Api, visitor: gr.Request, question: str, answer: Answer, most: int) -> None:
    """Fill in one column, greedily, so that a difference is one of the models."""
    body = {
        "model": answer.model, "messages": [{"role": "user", "content": question}],
        "max_tokens": most, "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    began, first, usage = time.perf_counter(), None, None
    async for events in paced(api.stream("/v1/chat/completions", visitor, body), _SHOW_EVERY_S):
        for event in events:
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                said, thought = choice["delta"].get("content"), choice["delta"].get("reasoning_content")
                answer.text += said or ""
                if said or thought:
                    first = first or time.perf_counter()
                    answer.line = "answering …" if said else "thinking …"
    took, answer.ended = time.perf_counter() - began, True
    answer.line = "no answer: the model ended at once" if first is None else "ended"
    if usage is not None and first is not None:
        tokens = usage["completion_tokens"]
        answer.line = f"{tokens} tokens · {speed(tokens, took)} · first after {first - began:.2f} s"


def _shown(current: Round) -> list[Any]:
    """The columns, then the buttons of the votes.

    The line stands above the text: below it, a block of code that is not closed would swallow it.
    """
    texts = [
        gr.Markdown(
            f"#### {as_markdown(title)}\n\n{as_markdown(answer.line)}\n\n---\n\n{as_markdown(answer.text)}",
            visible=True,
        )
        for title, answer in zip(current.titles, current.answers, strict=True)
    ]
    missing = _MOST - len(texts)
    buttons = [gr.Button(visible=index < len(texts)) for index in range(_MOST)]
    return [*texts, *(gr.Markdown("", visible=False) for _ in range(missing)), *buttons]


def _parting(current: Round) -> str:
    """Where the answers part for the first time; nothing if a model has not answered."""
    if not current.answers or any(answer.failed for answer in current.answers):
        return ""
    words = [re.findall(r"\S+", answer.text) for answer in current.answers]
    same = _common(words)
    if all(len(each) == same for each in words):
        return "All answers are the same."
    rest = [
        f"{letter}: **{as_markdown(' '.join(each[same : same + 6])) or '(ends here)'}**"
        for letter, each in zip(_LETTERS, words, strict=False)
    ]
    return f"The answers are the same for {same} word{'s' * (same != 1)}, then · " + " · ".join(rest)


def _common(words: Sequence[Sequence[str]]) -> int:
    """How many words all begin with."""
    count = 0
    for each in zip(*words, strict=False):
        if len(set(each)) > 1:
            break
        count += 1
    return count

"""The tab Chat: a conversation with a model, streamed, with its parameters, stop reason and use of the context."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
import msgspec

from ..api import Api, paced
from ..parts import choice_of, command_line, model_names, offer_versions
from ..stops import Stops
from ..text import as_markdown, as_typed, command, from_markdown, from_typed, speed

_ESCAPE_STOPS = """() => document.addEventListener("keydown", (pressed) => {
    if (pressed.key === "Escape") document.querySelector("#chat-stop")?.click();
})"""
# A message is taken out of its field in the browser at once: an answer of the server that empties the field would empty
# it of what was typed since. Where there is nothing to send, or an answer is under way, the chain of events ends here.
_TAKE = """(text, answering) => {
    if (answering || !text.trim()) throw new Error("nothing is sent");
    return ["", text, true, {__type__: "update", interactive: false}, {__type__: "update", interactive: true}];
}"""
_KEPT = "lqmf-chat"
Messages = list[dict[str, str]]
_SHOW_EVERY_S = 0.05
_KEEP_EVERY_S = 1.0  # of an answer under way, so that a reload loses little of it
_WHY = {
    "stop": "it came to an end",
    "length": "cut off at the most tokens: ask it to continue, or allow more",
    "content_filter": "stopped by a filter",
}


@dataclass
class _Answer:
    """What has come of an answer.

    Attributes:
        version: of the weights that gave it, where that is known.
        first_s: when the first of it came. A model that is not loaded yet takes its time before that.
    """

    said: str = ""
    thought: str = ""
    reason: str = ""
    usage: dict[str, Any] | None = None
    version: str = ""
    began: float = field(default_factory=time.perf_counter)
    first_s: float | None = None

    @property
    def took_s(self) -> float:
        """Since it was asked for."""
        return time.perf_counter() - self.began

    @property
    def progress(self) -> str:
        """What the model is doing."""
        if self.said:
            return "answering …"
        if self.thought:
            return f"thinking, {len(self.thought.split()):,} words …"
        return f"waiting for the first token, {self.took_s:.0f} s …"

    def take(self, events: list[dict[str, Any]]) -> None:
        """Add what has come."""
        for event in events:
            self.usage = event.get("usage") or self.usage
            self.version = event.get("system_fingerprint") or self.version
            for choice in event["choices"]:
                self.said += choice["delta"].get("content") or ""
                self.thought += choice["delta"].get("reasoning_content") or ""
                self.reason = choice.get("finish_reason") or self.reason
        if self.first_s is None and (self.said or self.thought):
            self.first_s = self.took_s


@dataclass(frozen=True)
class _Layout:
    """The components of the tab.

    Attributes:
        kept: what the browser keeps, so that a reload does not lose it.
        taken: the message that is sent, while the visitor types the next one in `text`.
        answering: whether an answer is under way.
    """

    messages: gr.State
    kept: gr.BrowserState
    taken: gr.Textbox
    answering: gr.Checkbox
    model: gr.Dropdown
    meter: gr.Textbox
    chatbot: gr.Chatbot
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    thinking: gr.Accordion
    thoughts: gr.Markdown
    parameters: list[Any]
    same: gr.Textbox

    @property
    def settings(self) -> list[Any]:
        """What `_Asked` is made of."""
        return [self.model, *self.parameters]

    @property
    def busy(self) -> list[Any]:
        """What says whether an answer is under way; `_busy` has the values."""
        return [self.answering, self.send, self.stop]

    @property
    def shown(self) -> list[Any]:
        """What an answer changes."""
        return [
            self.messages, self.chatbot, self.meter, self.same, self.thinking, self.thoughts, self.kept, *self.busy,
        ]  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """How the next answer is asked for."""

    model: str
    system: str
    most: int | None
    temperature: float
    top_p: float
    seed: int | None

    def body(self, past: Messages) -> dict[str, Any]:
        """The request that goes on with a conversation."""
        prompt: Messages = [{"role": "system", "content": self.system}] if self.system.strip() else []
        seed = {} if self.seed is None else {"seed": self.seed}
        return {
            "model": self.model, "messages": prompt + past, "max_tokens": self.most, "temperature": self.temperature,
            "top_p": self.top_p, "stream": True, "stream_options": {"include_usage": True}, **seed,
        }  # fmt: skip

    def line(self, text: str) -> str:
        """What asks the last message alone in a terminal; a conversation goes on in the chat there."""
        given = {
            "max_tokens": (-1 if self.most is None else self.most, 512),
            "temperature": (self.temperature, 0.7),
            "top_p": (self.top_p, 0.95),
            "seed": (self.seed, None),
        }
        words = [f"mode.sampling.{name}={value}" for name, (value, usual) in given.items() if value != usual]
        if self.system.strip():
            words.append(f"mode.system={self.system}")
        return command("chat", self.model, text, *words)


def add(api: Api, blocks: gr.Blocks) -> None:
    """Add the tab."""
    layout = _lay_out()
    _connect_answers(api, layout)
    _connect_conversation(blocks, layout)

    async def fill(visitor: gr.Request, chosen: str | None) -> Any:
        return choice_of(await model_names(api, visitor), chosen)

    filled = blocks.load(fill, layout.model, layout.model, api_visibility="private")
    offer_versions(filled, api, layout.model)


def _lay_out() -> _Layout:
    messages, kept = gr.State([]), gr.BrowserState([], storage_key=_KEPT, secret=_KEPT)
    taken, answering = gr.Textbox(visible=False), gr.Checkbox(False, visible=False)
    with gr.Row():
        model = gr.Dropdown(label="Model", choices=[], elem_id="chat-model", scale=2, min_width=240)
        meter = gr.Textbox(
            label="Last answer", interactive=False, elem_id="chat-meter", scale=3, min_width=240
        )
    chatbot = gr.Chatbot(
        show_label=False, height="55vh", editable="user", buttons=["copy"], elem_id="chat-messages",
        placeholder="Ask something. Loading a model takes a moment at the first question.",
    )  # fmt: skip
    with gr.Row():
        text = gr.Textbox(
            show_label=False, placeholder="Message (Shift-Enter: new line, Escape: stop)",
            lines=1, max_lines=12, autofocus=True, scale=6, min_width=280, elem_id="chat-text",
        )  # fmt: skip
        send = gr.Button("Send", variant="primary", min_width=80, elem_id="chat-send")
        stop = gr.Button("Stop", variant="stop", min_width=80, interactive=False, elem_id="chat-stop")
        clear = gr.Button("New", min_width=80, elem_id="chat-new")
    with gr.Accordion("Thoughts before the last answer", open=False, visible=False) as thinking:
        thoughts = gr.Markdown(elem_id="chat-thoughts")
    parameters = _lay_out_parameters()
    return _Layout(
        messages, kept, taken, answering, model, meter, chatbot, text, send, stop, clear, thinking, thoughts,
        parameters, command_line("chat"),
    )  # fmt: skip


def _lay_out_parameters() -> list[Any]:
    """The fields of `_Asked` behind the model, in their order."""
    with gr.Accordion("System prompt and parameters", open=False):
        system = gr.Textbox("", label="System prompt", lines=2, elem_id="chat-system")
        with gr.Row():
            return [
                system,
                gr.Number(512, label="Most tokens", precision=0, minimum=1),
                gr.Slider(0, 2, 0.7, step=0.05, label="Temperature"),
                gr.Slider(0.05, 1, 0.95, step=0.05, label="Top p"),
                gr.Number(None, label="Seed (empty: none)", precision=0),
            ]


def _connect_answers(api: Api, layout: _Layout) -> None:
    """What asks, answers, and stops an answer."""
    messages, chatbot = layout.messages, layout.chatbot
    stops = Stops()

    async def answer(
        visitor: gr.Request, past: Messages, model: str, system: str, most: int | None, temperature: float,
        top_p: float, seed: int | None,
    ) -> AsyncGenerator[tuple[Any, ...], None]:  # fmt: skip
        asked = _Asked(model, system, most, temperature, top_p, seed)
        with stops.answering(visitor) as stop:
            async with contextlib.aclosing(_answer(api, visitor, asked, past, stop)) as answering:
                async for shown in answering:
                    yield shown
            if stop.forgets:
                yield _nothing()

    async def forget(visitor: gr.Request) -> tuple[Any, ...]:
        await stops.forget(visitor)
        return _nothing()

    async def say(
        visitor: gr.Request, said: str, past: Messages, *settings: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        past = [*past, {"role": "user", "content": said}]
        async with contextlib.aclosing(answer(visitor, past, *settings)) as answering:
            async for shown in answering:
                yield shown

    taken = gr.on(
        [layout.text.submit, layout.send.click], None, [layout.text, layout.answering],
        [layout.text, layout.taken, *layout.busy], js=_TAKE, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    answers = [taken.success(
        say, [layout.taken, messages, *layout.settings], layout.shown, show_progress="hidden", api_visibility="private"
    )]  # fmt: skip
    for event, act in ((chatbot.edit, _edit), (chatbot.retry, _retry)):
        again = event(act, messages, [messages, chatbot, *layout.busy], api_visibility="private")
        answers.append(again.then(
            answer, [messages, *layout.settings], layout.shown, show_progress="hidden", api_visibility="private"
        ))  # fmt: skip
    for each in answers:
        each.failure(_idle, None, layout.busy, show_progress="hidden", api_visibility="private")
    layout.stop.click(stops.end, None, None, show_progress="hidden", api_visibility="private")
    for cleared in (layout.clear.click, chatbot.clear):
        cleared(forget, None, layout.shown, show_progress="hidden", api_visibility="private")


def _connect_conversation(blocks: gr.Blocks, layout: _Layout) -> None:
    """What copies, takes back and restores a conversation without asking a model."""
    messages, chatbot = layout.messages, layout.chatbot
    # The button copies what is shown, in which markup is escaped; the text follows at once.
    copied = gr.Textbox(visible=False)
    chatbot.copy(_as_written, messages, copied, show_progress="hidden", api_visibility="private").then(
        None, copied, None, js="(text) => navigator.clipboard?.writeText(text)", api_visibility="private"
    )
    chatbot.undo(_undo, messages, [messages, chatbot, layout.text, layout.kept], api_visibility="private")
    blocks.load(_restore, layout.kept, [messages, chatbot], show_progress="hidden", api_visibility="private")
    blocks.load(None, js=_ESCAPE_STOPS, api_visibility="private")


async def _answer(
    api: Api, visitor: gr.Request, asked: _Asked, past: Messages, stop: asyncio.Event
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Answer the last message, and show what has come of it; a model that has only thought has said nothing yet."""
    got, keep_at = _Answer(), 0.0

    def now(state: str, *, keep: bool = False, ended: bool = False) -> tuple[Any, ...]:
        said = got.said or (ended and not stop.is_set())
        there = [*past, {"role": "assistant", "content": got.said}] if said else past
        line = asked.line(past[-1]["content"])
        thoughts = gr.Accordion(visible=bool(got.thought)), as_markdown(got.thought)
        kept = there if keep or ended else gr.skip()
        return there, _bubbles(there), state, line, *thoughts, kept, *_busy(not ended)

    yield now(got.progress, keep=True)
    try:
        if not asked.model:  # the list may not have arrived yet
            asked = replace(asked, model=next(iter(await model_names(api, visitor)), ""))
        async for events in paced(
            api.stream("/v1/chat/completions", visitor, asked.body(past)), _SHOW_EVERY_S, stop
        ):
            got.take(events)
            keep = bool(got.said) and got.took_s >= keep_at
            keep_at = got.took_s + _KEEP_EVERY_S if keep else keep_at
            yield now(got.progress, keep=keep)
    except gr.Error:
        why = "broken off by an error; what came is kept" if got.said else "no answer: there was an error"
        yield now(why, ended=bool(got.said))
        raise
    if stop.is_set() and not got.reason:
        yield now("stopped by you", ended=True)
        return
    loaded = (await api.get("/models", visitor))["models"]
    yield now(_meter(got, asked.model, loaded), ended=True)


def _busy(answering: bool) -> tuple[Any, ...]:
    """Whether an answer is under way; then there is something to stop, and nothing is sent."""
    return answering, gr.Button(interactive=not answering), gr.Button(interactive=answering)


async def _idle() -> tuple[Any, ...]:
    return _busy(False)


async def _edit(past: Messages, event: gr.EditData) -> tuple[Any, ...]:
    past = [*past[: event.index], {"role": "user", "content": from_typed(str(event.value))}]
    return past, _bubbles(past), *_busy(True)


async def _retry(past: Messages, event: gr.RetryData) -> tuple[Any, ...]:
    past = past[: event.index + 1]
    return past, _bubbles(past), *_busy(True)


async def _undo(past: Messages, event: gr.UndoData) -> tuple[Any, ...]:
    left = past[: event.index]
    return left, _bubbles(left), past[event.index]["content"], left


async def _as_written(past: Messages, event: gr.CopyData) -> str:
    shown = str(event.value)
    return next((turn["content"] for turn in past if _shown(turn) == shown), from_markdown(shown))


async def _restore(found: object) -> tuple[Messages, Any]:
    past = _conversation(found)
    return past, _bubbles(past)


def _nothing() -> tuple[Any, ...]:
    """What is shown before the first message."""
    return [], [], "", "", gr.Accordion(visible=False), "", [], *_busy(False)


def _conversation(found: object) -> Messages:
    """What the browser has kept, if it is a conversation."""
    try:
        return [
            {"role": turn["role"], "content": turn["content"]}
            for turn in msgspec.convert(found, list[dict[str, str]])
        ]
    except (msgspec.ValidationError, KeyError):
        return []


def _bubbles(messages: Messages) -> list[dict[str, str]]:
    """What the chatbot shows: a user's message as it was typed, an answer with its Markdown but without markup."""
    return [{**message, "content": _shown(message)} for message in messages]


def _shown(message: dict[str, str]) -> str:
    return as_typed(message["content"]) if message["role"] == "user" else as_markdown(message["content"])


def _meter(got: _Answer, model: str, loaded: list[dict[str, Any]]) -> str:
    """Why an answer ended, how fast it was, how full the context is, and which version gave it."""
    parts = [_WHY.get(got.reason, got.reason or "ended without a reason")]
    answered = got.version if "@" in got.version else model
    context = next((entry["context_tokens"] for entry in loaded if entry["name"] in (answered, model)), 0)
    if got.usage is not None:
        used, new = got.usage["total_tokens"], got.usage["completion_tokens"]
        first = "" if got.first_s is None else f", first after {got.first_s:.1f} s"
        parts.append(f"{new:,} tokens in {got.took_s:.1f} s{first} ({speed(new, got.took_s)})")
        if context:
            parts.append(f"context {used:,} of {context:,} ({used / context:.0%})")
    return " · ".join([*parts, *([answered] if answered != model else [])])

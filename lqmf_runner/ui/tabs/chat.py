"""The tab Chat: a conversation with a model, streamed, with its parameters, stop reason and use of the context."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import msgspec

from ..api import Api, paced
from ..parts import choice_of, command_line, model_names, offer_versions
from ..text import as_markdown, command, from_markdown

_ESCAPE_STOPS = """() => document.addEventListener("keydown", (pressed) => {
    if (pressed.key === "Escape") document.querySelector("#chat-stop")?.click();
})"""
_KEPT = "lqmf-chat"
Messages = list[dict[str, str]]
_SHOW_EVERY_S = 0.05
_WHY = {
    "stop": "it came to an end",
    "length": "cut off at the most tokens: ask it to continue, or allow more",
    "content_filter": "stopped by a filter",
}


@dataclass
class _Answer:
    """What has come of an answer. `version` is of the weights that gave it, where that is known."""

    said: str = ""
    thought: str = ""
    reason: str = ""
    usage: dict[str, Any] | None = None
    version: str = ""
    began: float = field(default_factory=time.perf_counter)

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


@dataclass(frozen=True)
class _Layout:
    """The components of the tab. `kept` is what the browser keeps, so that a reload does not lose it."""

    messages: gr.State
    kept: gr.BrowserState
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
    def shown(self) -> list[Any]:
        """What an answer changes."""
        return [self.messages, self.chatbot, self.meter, self.same, self.thinking, self.thoughts, self.kept]


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
    with gr.Row():
        model = gr.Dropdown(label="Model", choices=[], elem_id="chat-model", scale=2)
        meter = gr.Textbox(label="Last answer", interactive=False, elem_id="chat-meter", scale=3)
    chatbot = gr.Chatbot(
        show_label=False, height="55vh", editable="user", buttons=["copy"], elem_id="chat-messages",
        placeholder="Ask something. Loading a model takes a moment at the first question.",
    )  # fmt: skip
    with gr.Row():
        text = gr.Textbox(
            show_label=False, placeholder="Message; Enter sends, Shift-Enter begins a line, Escape stops",
            lines=1, max_lines=12, autofocus=True, scale=6, elem_id="chat-text",
        )  # fmt: skip
        send = gr.Button("Send", variant="primary", min_width=80, elem_id="chat-send")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="chat-stop")
        clear = gr.Button("New", min_width=80, elem_id="chat-new")
    with gr.Accordion("Thoughts before the last answer", open=False, visible=False) as thinking:
        thoughts = gr.Markdown(elem_id="chat-thoughts")
    parameters = _lay_out_parameters()
    return _Layout(
        messages, kept, model, meter, chatbot, text, send, stop, clear, thinking, thoughts, parameters,
        command_line("chat"),
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
    messages, chatbot, text, kept = layout.messages, layout.chatbot, layout.text, layout.kept

    async def answer(
        visitor: gr.Request, past: Messages, model: str, system: str, most: int | None, temperature: float,
        top_p: float, seed: int | None,
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        if not past or past[-1]["role"] != "user":
            yield (gr.skip(),) * len(layout.shown)  # Gradio empties the outputs of what yields nothing
            return
        model = model or next(iter(await model_names(api, visitor)), "")  # the list may not have arrived yet
        asked = _Asked(model, system, most, temperature, top_p, seed)
        async with contextlib.aclosing(_answer(api, visitor, asked, past)) as answering:
            async for shown in answering:
                yield shown

    sends = [
        event(_ask, [text, messages], [text, messages, chatbot, kept], show_progress="hidden", api_visibility="private")
        for event in (text.submit, layout.send.click)
    ]  # fmt: skip
    again = [
        event(act, messages, [messages, chatbot], api_visibility="private")
        for event, act in ((chatbot.edit, _edit), (chatbot.retry, _retry))
    ]
    answering = [
        first.then(
            answer, [messages, *layout.settings], layout.shown, show_progress="hidden", api_visibility="private"
        )
        for first in (*sends, *again)
    ]  # fmt: skip
    layout.stop.click(_stopped, messages, [layout.meter, kept], cancels=answering, api_visibility="private")
    for cleared in (layout.clear.click, chatbot.clear):
        cleared(_forget, None, layout.shown, cancels=answering, api_visibility="private")


def _connect_conversation(blocks: gr.Blocks, layout: _Layout) -> None:
    """What copies, takes back and restores a conversation without asking a model."""
    messages, chatbot = layout.messages, layout.chatbot
    # The button copies what is shown, in which markup is escaped; the text follows at once.
    copied = gr.Textbox(visible=False)
    chatbot.copy(_as_written, None, copied, show_progress="hidden", api_visibility="private").then(
        None, copied, None, js="(text) => navigator.clipboard?.writeText(text)", api_visibility="private"
    )
    chatbot.undo(_undo, messages, [messages, chatbot, layout.text, layout.kept], api_visibility="private")
    blocks.load(_restore, layout.kept, [messages, chatbot], show_progress="hidden", api_visibility="private")
    blocks.load(None, js=_ESCAPE_STOPS, api_visibility="private")


async def _answer(
    api: Api, visitor: gr.Request, asked: _Asked, past: Messages
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Answer the last message, and show what has come of it; a model that has only thought has said nothing yet."""
    line = asked.line(past[-1]["content"])
    got = _Answer()

    def now(state: str, *, ended: bool = False) -> tuple[Any, ...]:
        there = [*past, {"role": "assistant", "content": got.said}] if got.said or ended else past
        keep = there if ended else gr.skip()
        thoughts = gr.Accordion(visible=bool(got.thought)), as_markdown(got.thought)
        return there, _bubbles(there), state, line, *thoughts, keep

    yield now(got.progress)
    try:
        async for events in paced(
            api.stream("/v1/chat/completions", visitor, asked.body(past)), _SHOW_EVERY_S
        ):
            got.take(events)
            yield now(got.progress)
    except gr.Error:
        yield now("broken off by an error; what came is kept", ended=bool(got.said))
        raise
    loaded = (await api.get("/models", visitor))["models"]
    yield now(_meter(got, asked.model, loaded), ended=True)


async def _ask(text: str, past: Messages) -> tuple[Any, ...]:
    if text.strip():
        past = [*past, {"role": "user", "content": text}]
    return "", past, _bubbles(past), past


async def _edit(past: Messages, event: gr.EditData) -> tuple[Messages, Any]:
    past = [*past[: event.index], {"role": "user", "content": from_markdown(str(event.value))}]
    return past, _bubbles(past)


async def _retry(past: Messages, event: gr.RetryData) -> tuple[Messages, Any]:
    past = past[: event.index + 1]
    return past, _bubbles(past)


async def _undo(past: Messages, event: gr.UndoData) -> tuple[Any, ...]:
    left = past[: event.index]
    return left, _bubbles(left), past[event.index]["content"], left


async def _as_written(event: gr.CopyData) -> str:
    return from_markdown(str(event.value))


async def _stopped(past: Messages) -> tuple[str, Messages]:
    return "stopped by you", past


async def _restore(found: object) -> tuple[Messages, Any]:
    past = _conversation(found)
    return past, _bubbles(past)


async def _forget() -> tuple[Any, ...]:
    return [], [], "", "", gr.Accordion(visible=False), "", []


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
    """What the chatbot shows: no markup of a model or a user is more than text."""
    return [{**message, "content": as_markdown(message["content"])} for message in messages]


def _meter(got: _Answer, model: str, loaded: list[dict[str, Any]]) -> str:
    """Why an answer ended, how fast it was, how full the context is, and which version gave it."""
    parts = [_WHY.get(got.reason, got.reason or "ended without a reason")]
    answered = got.version if "@" in got.version else model
    context = next((entry["context_tokens"] for entry in loaded if entry["name"] in (answered, model)), 0)
    if got.usage is not None:
        used, new = got.usage["total_tokens"], got.usage["completion_tokens"]
        parts.append(f"{new:,} tokens in {got.took_s:.1f} s ({new / max(got.took_s, 1e-9):.0f} tok/s)")
        if context:
            parts.append(f"context {used:,} of {context:,} ({used / context:.0%})")
    return " · ".join([*parts, *([answered] if answered != model else [])])

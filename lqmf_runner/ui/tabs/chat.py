"""The tab Chat: a conversation with a model, streamed, with its parameters, stop reason and use of the context."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ..api import Api, paced
from ..parts import command_line, model_names
from ..text import as_markdown, command, from_markdown

Messages = list[dict[str, str]]
_SHOW_EVERY_S = 0.05
_WHY = {
    "stop": "it came to an end",
    "length": "cut off at the most tokens: ask it to continue, or allow more",
    "content_filter": "stopped by a filter",
}


def add(api: Api, blocks: gr.Blocks) -> None:
    """Add the tab."""
    messages = gr.State([])
    with gr.Row():
        model = gr.Dropdown(label="Model", choices=[], elem_id="chat-model", scale=2)
        meter = gr.Textbox(label="Last answer", interactive=False, elem_id="chat-meter", scale=3)
    chatbot = gr.Chatbot(
        show_label=False, height="55vh", editable="user", buttons=["copy"], elem_id="chat-messages",
        placeholder="Ask something. Loading a model takes a moment at the first question.",
    )  # fmt: skip
    with gr.Row():
        text = gr.Textbox(
            show_label=False, placeholder="Message; Enter sends, Shift-Enter begins a line", lines=1, max_lines=12,
            autofocus=True, scale=6, elem_id="chat-text",
        )  # fmt: skip
        send = gr.Button("Send", variant="primary", min_width=80, elem_id="chat-send")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="chat-stop")
        clear = gr.Button("New", min_width=80, elem_id="chat-new")
    with gr.Accordion("System prompt and parameters", open=False):
        system = gr.Textbox("", label="System prompt", lines=2, elem_id="chat-system")
        with gr.Row():
            max_tokens = gr.Number(512, label="Most tokens", precision=0, minimum=1)
            temperature = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
            top_p = gr.Slider(0.05, 1, 0.95, step=0.05, label="Top p")
            seed = gr.Number(None, label="Seed (empty: none)", precision=0)
    same = command_line("chat")

    settings = [model, system, max_tokens, temperature, top_p, seed]
    shown = [messages, chatbot, meter, same]

    async def answer(
        visitor: gr.Request, past: Messages, model: str, system: str, most: int, temperature: float, top_p: float,
        seed: int | None,
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        if not past or past[-1]["role"] != "user":
            return
        model = model or next(iter(await model_names(api, visitor)), "")  # the list may not have arrived yet
        prompt: Messages = [{"role": "system", "content": system}] if system.strip() else []
        body = {
            "model": model, "messages": prompt + past, "max_tokens": most, "temperature": temperature,
            "top_p": top_p, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if seed is not None:
            body["seed"] = seed
        line = _command(model, system, most, temperature, top_p, seed, past[-1]["content"])
        said, reason, usage, began = "", None, None, time.perf_counter()
        yield past, _bubbles(past), "waiting for the first token …", line
        async for events in paced(api.stream("/v1/chat/completions", visitor, body), _SHOW_EVERY_S):
            for event in events:
                usage = event.get("usage") or usage
                for choice in event["choices"]:
                    said += choice["delta"].get("content") or ""
                    reason = choice.get("finish_reason") or reason
            yield _with(past, said), _bubbles(_with(past, said)), "answering …", line
        loaded = (await api.get("/models", visitor))["models"]
        context = next((entry["context_tokens"] for entry in loaded if entry["name"] == model), 0)
        state = _meter(reason, usage, context, time.perf_counter() - began)
        yield _with(past, said), _bubbles(_with(past, said)), state, line

    async def ask(text: str, past: Messages) -> tuple[str, Messages, Any]:
        if text.strip():
            past = [*past, {"role": "user", "content": text}]
        return "", past, _bubbles(past)

    async def edit(past: Messages, event: gr.EditData) -> tuple[Messages, Any]:
        past = [*past[: event.index], {"role": "user", "content": from_markdown(str(event.value))}]
        return past, _bubbles(past)

    async def retry(past: Messages, event: gr.RetryData) -> tuple[Messages, Any]:
        past = past[: event.index + 1]
        return past, _bubbles(past)

    async def undo(past: Messages, event: gr.UndoData) -> tuple[Messages, Any, str]:
        return past[: event.index], _bubbles(past[: event.index]), past[event.index]["content"]

    async def stopped() -> str:
        return "stopped by you"

    async def forget() -> tuple[Messages, list[Any], str, str]:
        return [], [], "", ""

    async def fill(visitor: gr.Request, chosen: str | None) -> Any:
        names = await model_names(api, visitor)
        return gr.Dropdown(choices=names, value=chosen if chosen in names else next(iter(names), None))

    asking = [
        event(
            ask, [text, messages], [text, messages, chatbot], show_progress="hidden", api_visibility="private"
        )
        for event in (text.submit, send.click)
    ]
    asking.append(chatbot.edit(edit, messages, [messages, chatbot], api_visibility="private"))
    asking.append(chatbot.retry(retry, messages, [messages, chatbot], api_visibility="private"))
    answering = [
        first.then(answer, [messages, *settings], shown, show_progress="hidden", api_visibility="private")
        for first in asking
    ]
    stop.click(stopped, None, meter, cancels=answering, api_visibility="private")
    chatbot.undo(undo, messages, [messages, chatbot, text], api_visibility="private")
    for cleared in (clear.click, chatbot.clear):
        cleared(forget, None, shown, cancels=answering, api_visibility="private")
    blocks.load(fill, model, model, api_visibility="private")


def _with(past: Messages, said: str) -> Messages:
    return [*past, {"role": "assistant", "content": said}]


def _bubbles(messages: Messages) -> list[dict[str, str]]:
    """What the chatbot shows: no markup of a model or a user is more than text."""
    return [{**message, "content": as_markdown(message["content"])} for message in messages]


def _meter(reason: str | None, usage: dict[str, Any] | None, context: int, took_s: float) -> str:
    parts = [_WHY.get(reason or "", reason or "ended without a reason")]
    if usage is not None:
        used, new = usage["total_tokens"], usage["completion_tokens"]
        parts.append(f"{new:,} tokens in {took_s:.1f} s ({new / max(took_s, 1e-9):.0f} tok/s)")
        if context:
            parts.append(f"context {used:,} of {context:,} ({used / context:.0%})")
    return " · ".join(parts)


def _command(
    model: str, system: str, most: int, temperature: float, top_p: float, seed: int | None, text: str
) -> str:
    """What asks the last message alone; a conversation goes on in the chat of the terminal."""
    given = {
        "max_tokens": (most, 512),
        "temperature": (temperature, 0.7),
        "top_p": (top_p, 0.95),
        "seed": (seed, None),
    }
    words = [f"mode.sampling.{name}={value}" for name, (value, usual) in given.items() if value != usual]
    if system.strip():
        words.append(f"mode.system={system}")
    return command("chat", model, text, *words)

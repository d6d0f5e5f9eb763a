"""The tab Server: queue, speed and memory as they are now, keys, and how programs reach the server."""

from __future__ import annotations

import json
import time
from typing import Any

import gradio as gr
import msgspec

from ..api import Api
from ..config import PageConfig
from ..parts import command_line, model_names
from ..text import code_block, command

_EVERY_S = 3.0
_COLUMNS = [
    "model", "state", "replicas", "memory, MB", "running", "waiting", "answered", "failed", "output tokens",
    "TTFT p50, s", "ITL p50, ms",
]  # fmt: skip


class KeyEntry(msgspec.Struct):
    """What the page shows of a key."""

    name: str
    roles: list[str]


# Made here, not where it is used: see `results/files.py`.
_key_entries = msgspec.json.Decoder(list[KeyEntry])


def add(api: Api, config: PageConfig, blocks: gr.Blocks) -> None:
    """Add the tab."""
    before = gr.State(None)
    now = gr.Markdown(elem_id="server-now")
    table = gr.Dataframe(
        headers=_COLUMNS, datatype="str", interactive=False, label="Models", elem_id="server-table"
    )
    with gr.Accordion("Keys", open=False):
        keys = gr.Markdown(elem_id="server-keys")
    with gr.Accordion("Use it from a program", open=True):
        snippets = gr.Markdown(elem_id="server-snippets", buttons=["copy"])
    same = command_line("server")

    async def show(visitor: gr.Request, before: Any) -> tuple[Any, ...]:
        stats = await api.get("/stats", visitor)
        at = time.monotonic(), stats["output_tokens"]
        return at, _line(stats, before, at), [_row(name, model) for name, model in stats["models"].items()]

    async def fill(visitor: gr.Request) -> tuple[str, str, str]:
        names = await model_names(api, visitor)
        snippet = _snippets(_origin(visitor), next(iter(names), "<name>"), with_key=config.with_key)
        return _keys(config, visitor), snippet, command("status")

    shown = [before, now, table]
    gr.Timer(_EVERY_S).tick(show, before, shown, show_progress="hidden", api_visibility="private")
    blocks.load(show, before, shown, show_progress="hidden", api_visibility="private")
    blocks.load(fill, None, [keys, snippets, same], api_visibility="private")


def _line(stats: dict[str, Any], before: Any, at: tuple[float, int]) -> str:
    speed = ""
    if before is not None and at[0] > before[0]:
        # Tokens are counted when their request ends.
        speed = (
            f" · **{max(0, at[1] - before[1]) / (at[0] - before[0]):,.0f}** tok/s of answers that just ended"
        )
    return (
        f"**{stats['running']}** running · **{stats['waiting']}** waiting{speed} · "
        f"{stats['memory_mb']:,.0f} MB of models · {stats['requests']:,} requests and "
        f"{stats['output_tokens']:,} output tokens in {stats['uptime_s'] / 60:,.0f} min"
    )


def _row(name: str, model: dict[str, Any]) -> list[str]:
    ttft, itl = model["ttft_s"].get("p50"), model["itl_s"].get("p50")
    requests = model["requests"]
    return [
        name, model["state"], _replicas(model["replicas"]), f"{model['memory_mb']:,.0f}",
        str(model["running"]), str(model["waiting"]), f"{requests['ok']:,}",
        f"{requests['failed']:,}", f"{model['output_tokens']:,}", "" if ttft is None else f"{ttft:.2f}",
        "" if itl is None else f"{itl * 1e3:.0f}",
    ]  # fmt: skip


def _replicas(replicas: list[dict[str, Any]]) -> str:
    """How many are ready, and where; empty if the model is one engine."""
    ready = [replica for replica in replicas if replica["state"] == "ready"]
    places = ", ".join(sorted({replica["place"] for replica in ready}))
    return f"{len(ready)} of {len(replicas)} ready, {places}".removesuffix(", ") if replicas else ""


def _keys(config: PageConfig, visitor: gr.Request) -> str:
    """Names and roles, for those who may load models; never a key."""
    if not config.with_key:
        return "Nobody needs a key. `lqmf keys mode.add=<name>` makes one; it is asked for from the next start on."
    own = visitor.request.scope["state"].get("api_key")
    if own is None or not own.admin:
        return f"This is the key `{getattr(own, 'name', '?')}`, which may use models but not load or unload them."
    entries = []
    if config.keys_file is not None:
        entries = _key_entries.decode(config.keys_file.read_bytes())
    lines = [f"- `{entry.name}`: {', '.join(entry.roles)}" for entry in entries]
    return "\n".join(
        [f"This is the key `{own.name}`.", "", *lines, "", "`lqmf keys mode.add=<name>` makes one."]
    )


def _origin(visitor: gr.Request) -> str:
    """The server's address as the visitor's browser has it."""
    return f"{visitor.request.url.scheme}://{visitor.headers['host']}"


def _snippets(url: str, model: str, *, with_key: bool) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    key = " -H 'Authorization: Bearer <key>'" if with_key else ""
    curl = f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    python = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{url}/v1", api_key="{"<key>" if with_key else "none"}")\n'
        "answer = client.chat.completions.create(\n"
        f'    model={json.dumps(model)}, messages=[{{"role": "user", "content": "Hello"}}]\n)\n'
        "print(answer.choices[0].message.content)"
    )
    parts = [
        ("base_url, for a program that speaks OpenAI's API", f"{url}/v1"),
        ("curl", curl),
        ("Python", python),
    ]
    return (
        "\n\n".join(f"{title}\n\n{code_block(text)}" for title, text in parts)
        + f"\n\nAll routes: [{url}/docs]({url}/docs)"
    )

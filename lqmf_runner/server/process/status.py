"""The servers that are on record: whether they answer, and how they are shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.markup import escape
from rich.table import Table

from ...output import OutputConsole
from .registry import ServerRecord

_TIMEOUT_S = 3.0
_STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow"}


def examine(record: ServerRecord) -> dict[str, Any]:
    """The record, and how long the server takes to answer (None: it does not)."""
    began = time.perf_counter()
    try:
        # The certificate is not checked: nothing is told or believed but that there is an answer.
        answer = httpx.get(f"{record.url}/health", timeout=_TIMEOUT_S, verify=False, trust_env=False)
        health_ms = round((time.perf_counter() - began) * 1000, 1) if answer.status_code == 200 else None
    except httpx.HTTPError:
        health_ms = None
    return {**msgspec.to_builtins(record), "health_ms": health_ms}


def print_table(servers: list[dict[str, Any]]) -> None:
    """The servers in the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("url", "process", "state", "models", "since", "folder"):
        table.add_column(title, overflow="fold", no_wrap=title == "url")  # it is there to be copied
    for server in servers:
        state = server["state"] if server["health_ms"] is not None else "does not answer"
        table.add_row(
            server["url"],
            str(server["pid"]),
            f"[{_STYLES.get(state, 'red')}]{state}[/]",
            escape(", ".join(server["models"])) or "-",
            server["started_at"].replace("T", " ")[:19],
            escape(_short(server["run_dir"])),
        )
    OutputConsole(highlight=False).print(table)


def _short(folder: str) -> str:
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder

"""The servers that are on record: whether they answer, and how they are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ...output import list_console
from ...reports.columns import Column
from ...reports.tables import fit_tables, print_table
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


def print_servers(servers: list[dict[str, Any]]) -> None:
    """The servers in the terminal."""
    console = list_console()
    for table in fit_tables(_COLUMNS, servers, console):
        print_table(console, table)
        console.print()


def _state(server: dict[str, Any]) -> str:
    return str(server["state"]) if server["health_ms"] is not None else "does not answer"


def _short(folder: str) -> str:
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


_COLUMNS: Sequence[Column[dict[str, Any]]] = (
    Column("url", lambda server: server["url"], is_number=False),
    Column("state", _state, is_number=False, style=lambda server: _STYLES.get(_state(server), "red")),
    Column("process", lambda server: str(server["pid"]), is_number=False),
    Column("since", lambda server: server["started_at"].replace("T", " ")[:19], is_number=False),
    Column("models", lambda server: ", ".join(server["models"]) or "-", is_number=False),
    Column("folder", lambda server: _short(server["run_dir"]), is_number=False),
)

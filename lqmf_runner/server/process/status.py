"""The servers that are on record: whether they answer, and how they are shown."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ...output import list_console
from ...reports.columns import Column
from ...reports.tables import fit_tables, print_table
from ...tls import trust
from .registry import ServerRecord

_TIMEOUT_S = 3.0
_STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow"}


def examine(record: ServerRecord) -> dict[str, Any]:
    """The record, how long the server takes to answer (None: it does not), and what is loaded now.

    `replicas` says of models that have some how many are ready; `versions` has the versions that answer a name, each
    with its share. Both are empty, and the models are those of the start, where the server wants a key and
    LQMF_API_KEY has none that it takes.
    """
    shown = {**msgspec.to_builtins(record), "health_ms": None, "replicas": {}, "versions": {}}
    began = time.perf_counter()
    try:
        if _asked(record, "/health") is None:
            return shown
        shown["health_ms"] = round((time.perf_counter() - began) * 1000, 1)
        if (answer := _asked(record, "/models")) is not None:
            loaded = answer["models"]
            shown["models"] = [model["name"] for model in loaded]
            shown["replicas"] = {m["name"]: ready_of(m["replicas"]) for m in loaded if m["replicas"]}
        shown["versions"] = (_asked(record, "/versions") or {}).get("names", {})
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        pass  # nothing answers there, or something that is not a server of ours
    return shown


def _asked(record: ServerRecord, path: str) -> dict[str, Any] | None:
    """What the server answers; None if it refuses."""
    key = os.environ.get("LQMF_API_KEY")
    answer = httpx.get(
        f"{record.url}{path}",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=_TIMEOUT_S,
        verify=trust(record.certfile),
        trust_env=False,
    )
    return dict(answer.json()) if answer.status_code == 200 else None


def ready_of(replicas: Sequence[Mapping[str, Any]]) -> str:
    """As "2 of 3 ready (node-a, node-b)"."""
    ready = [replica for replica in replicas if replica["state"] == "ready"]
    places = ", ".join(sorted({replica["place"] for replica in ready}))
    return f"{len(ready)} of {len(replicas)} ready" + f" ({places})" * bool(places)


def shares(versions: Mapping[str, float]) -> str:
    """As "m@3", or "90 % m@3, 10 % m@4" where several answer."""
    if len(versions) == 1:
        return next(iter(versions))
    return ", ".join(f"{share:.0%} {label}".replace("%", " %") for label, share in versions.items())


def shown_models(server: Mapping[str, Any]) -> str:
    """What an examined server serves, as "a, qwen: qwen@3 (2 of 2 ready)"."""
    replicas: dict[str, str] = server["replicas"]
    versions: dict[str, dict[str, float]] = server["versions"]
    behind = {label for answering in versions.values() for label in answering}
    names = [name for name in dict.fromkeys((*versions, *server["models"])) if name not in behind]

    def noted(label: str) -> str:
        return f"{label} ({replicas[label]})" if label in replicas else label

    return (
        ", ".join(
            f"{name}: {shares({noted(label): share for label, share in versions[name].items()})}"
            if name in versions
            else noted(name)
            for name in names
        )
        or "-"
    )


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
    Column("models", shown_models, is_number=False),
    Column("folder", lambda server: _short(server["run_dir"]), is_number=False),
)

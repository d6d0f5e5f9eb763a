"""What `mode=status` asks a server, and how it shows replicas and versions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lqmf_runner.server.process.registry import ServerRecord
from lqmf_runner.server.process.status import examine, shares, shown_models

REPLICAS = [{"state": "ready", "place": "node-b"}, {"state": "starting", "place": "node-c"}]


@contextmanager
def _serving(answers: dict[str, Any]) -> Iterator[ServerRecord]:
    """A server that answers these paths, and refuses others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(200 if found is not None else 401)
            self.end_headers()
            self.wfile.write(json.dumps(found or {}).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        yield ServerRecord(
            pid=1, process_start=1, host="127.0.0.1", port=port, url=f"http://127.0.0.1:{port}", run_dir="r",
            started_at="2026-01-01T00:00:00", version="1", models=["of the start"],
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()


def test_replicas_and_versions_are_shown() -> None:
    models = [{"name": "a", "replicas": []}, {"name": "qwen@3", "replicas": REPLICAS}]
    names = {"qwen": {"qwen@3": 0.9, "qwen@4": 0.1}}
    answers = {"/health": {}, "/models": {"models": models}, "/versions": {"names": names}}
    with _serving(answers) as record:
        server = examine(record)
    assert server["models"] == ["a", "qwen@3"]
    assert server["versions"] == names
    assert shown_models(server) == "qwen: 90 % qwen@3 (1 of 2 ready (node-b)), 10 % qwen@4, a"


def test_where_a_key_is_wanted_the_models_of_the_start_are_shown() -> None:
    with _serving({"/health": {}}) as record:
        server = examine(record)
    assert server["health_ms"] is not None
    assert shown_models(server) == "of the start"


def test_nothing_is_loaded() -> None:
    with _serving({"/health": {}, "/models": {"models": []}, "/versions": {"names": {}}}) as record:
        assert shown_models(examine(record)) == "-"


@pytest.mark.parametrize(
    ("versions", "text"), [({"m@3": 1.0}, "m@3"), ({"m@3": 0.5, "m@4": 0.5}, "50 % m@3, 50 % m@4")]
)
def test_shares_are_written_where_there_are_several(versions: dict[str, float], text: str) -> None:
    assert shares(versions) == text

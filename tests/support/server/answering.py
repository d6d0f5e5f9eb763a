"""A server that answers some paths as it is told to, and its record."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lqmf_runner.server.process.registry import ServerRecord


@contextmanager
def answering_server(answers: Mapping[str, Any]) -> Iterator[ServerRecord]:
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

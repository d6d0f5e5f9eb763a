"""A small OpenAI endpoint over real HTTP, in threads, for programs that run as processes of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[str], str | Iterable[str]]


class RecordingEndpoint(ThreadingHTTPServer):
    """`asked` has the prompts in the order in which they came. `on_asked` is told how many that makes.

    `on_listed` is told the path of each GET, all of which get the list of models: with a `key`, those who send it.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer, port: int = 0, key: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = key
        self.answer = answer
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.model = "m"
        self.on_asked: Callable[[int], None] = lambda _: None
        self.on_listed: Callable[[str], None] = lambda _: None
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed are part of the tests."""


_END = (
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
)


def _piece(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingEndpoint

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.on_listed(self.path)
        if self.server.key and self.headers["authorization"] != f"Bearer {self.server.key}":
            self.send_error(401)
            return
        self._reply(json.dumps({"data": [{"id": self.server.model}]}).encode(), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.asked.append(prompt)
            self.server.bodies.append(body)
            self.server.on_asked(len(self.server.asked))
        answer = self.server.answer(prompt)
        if not isinstance(answer, str):
            self._stream(answer)
            return
        events = (_piece(answer), *_END)
        self._reply(b"".join(map(_event, events)), "text/event-stream")

    def _stream(self, pieces: Iterable[str]) -> None:
        """Send each piece when it comes. The connection ends the answer."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(_event(_piece(piece)))
        self.wfile.write(b"".join(map(_event, _END)))
        self.close_connection = True

    def _reply(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve(answer: Answer) -> Iterator[RecordingEndpoint]:
    """An endpoint that answers a prompt with `answer(prompt)`: a text, or pieces that are sent one by one."""
    with RecordingEndpoint(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def configure(folder: Path, **urls: str) -> None:
    """Write `model/<name>.yaml` into a folder of configuration, for models that endpoints serve."""
    models = folder / "model"
    models.mkdir(parents=True)
    for name, url in urls.items():
        (models / f"{name}.yaml").write_text(
            "# @package _global_\n"
            "defaults: [model_schema@model, {override /backend@_global_.backend: openai}]\n"
            f"model: {{name: {name}}}\nbackend: {{base_url: '{url}'}}\n"
        )

"""A small hub: its API and its files over real HTTP, with connections that break and files that arrive damaged."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".gguf", ".bin")
"""These have a SHA-256 on the hub, as files in LFS."""


class Hub(ThreadingHTTPServer):
    """Repositories by id, each its files by path.

    Attributes:
        cut: breaks the connection after so many bytes of a file, once for each number.
        damaged: files that arrive with their last byte changed.
        ranges: whether a part of a file can be asked for.
        status: answers these paths with a status.
        got: the path and the range of each file that was asked for.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.cut: dict[str, list[int]] = {}
        self.damaged: set[str] = set()
        self.ranges = True
        self.status: dict[str, int] = {}
        self.got: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """What a program needs in its environment to take this for the hub."""
        return {"HF_ENDPOINT": self.url, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed are part of the tests."""


def commit_of(files: dict[str, bytes]) -> str:
    """A commit's id, which changes with the files."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, content in sorted(files.items()):
        digest.update(path.encode() + content)
    return digest.hexdigest()


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a folder as those of a repository."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    described: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if path.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        described["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
    return described


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/").partition("/revision/")[0])
            return
        owner, name, _, _, file = path.lstrip("/").split("/", 4)
        self._send(f"{owner}/{name}", file)

    def _list(self, hub_id: str) -> None:
        files = self.server.repositories.get(hub_id)
        if files is None:
            self._end(404, b'{"error": "Repository not found"}')
            return
        siblings = [_sibling(path, content) for path, content in files.items()]
        listing = {"id": hub_id, "modelId": hub_id, "sha": commit_of(files), "siblings": siblings}
        self._end(200, json.dumps(listing).encode())

    def _send(self, hub_id: str, file: str) -> None:
        asked = self.headers.get("range", "")
        self.server.got.append((file, asked))
        if status := self.server.status.get(file):
            self._end(status, b"no")
            return
        content = self.server.repositories[hub_id][file]
        if file in self.server.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(content) - start))
        self.end_headers()
        cuts = self.server.cut.get(file)
        self.wfile.write(content[start : start + cuts.pop(0)] if cuts else content[start:])

    def _end(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub with these repositories, on a free port."""
    with Hub(repositories) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()

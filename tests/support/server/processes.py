"""A server as a user runs it: a process with a tiny model, signals and all."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.models.tiny import make_gguf

CPU_SECONDS = (
    3.0  # a short command takes under one on a quiet machine; processor time, as others use the machine too
)

MODEL, SECOND = "tiny", "second"
TINY = ("model=local", f"model.name={MODEL}")
CHAT = "/v1/chat/completions"


class Program:
    """Runs `python -m lqmf_runner` in a folder that has a tiny model, with records of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (MODEL, SECOND):
            (folder / "quantized-models" / name).mkdir(parents=True)
            make_gguf(folder / "quantized-models" / name / "model.gguf")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LQMF_", "HYDRA_"))}
        # The code under test, wherever the installed one comes from.
        clean["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
        self.env = clean | {"LQMF_RUNTIME_DIR": str(folder / "records"), "COLUMNS": "150"}

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "lqmf_runner", "tracking=none", *args]

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def servers(self) -> list[dict[str, Any]]:
        return list(json.loads(self.run("mode=status", "mode.format=json").stdout))

    @contextlib.contextmanager
    def serve(self, *args: str, model: Sequence[str] = TINY, **env: str) -> Iterator[Server]:
        """A server in the foreground on a free port, once it is ready; `model` chooses what it loads."""
        process = subprocess.Popen(
            self.command("mode=serve", "server.port=0", *model, *args),
            cwd=self.folder, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert " on http" in line, process.communicate()
            yield Server(process, line)
        finally:
            process.kill()
            process.communicate()


class Server:
    def __init__(self, process: subprocess.Popen[str], announcement: str) -> None:
        self.process = process
        self.announcement = announcement
        self.url = "http" + announcement.split(" on http")[1].split()[0]
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False, verify=False)

    def chat(self, model: str = MODEL, **body: Any) -> httpx.Response:
        return self.client.post(CHAT, json=chat_body(model, **body))

    def stream(self, model: str = MODEL, **body: Any) -> contextlib.AbstractContextManager[httpx.Response]:
        return self.client.stream("POST", CHAT, json=chat_body(model, stream=True, **body))

    def workers(self) -> list[int]:
        return children(self.process.pid)

    @contextlib.contextmanager
    def held(self) -> Iterator[Held]:
        """A request that is being served and cannot end, as its body is not complete."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as sock:
            yield Held(sock, f"{host}:{port}")

    def wait_until_draining(self) -> None:
        """Return once the signal has arrived."""
        while httpx.get(f"{self.url}/ready", timeout=60, trust_env=False).status_code != 503:
            pass

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


class Held:
    def __init__(self, sock: socket.socket, host: str) -> None:
        self._sock = sock
        self._body = json.dumps(chat_body()).encode()
        sock.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 100")  # the application asks for the body

    def finish(self) -> bytes:
        """Send the body; returns the answer."""
        self._sock.sendall(self._body)
        return self.answer()

    def answer(self) -> bytes:
        """All that comes until the connection ends."""
        received = b""
        while data := self._sock.recv(1 << 16):
            received += data
        return received


def chat_body(model: str = MODEL, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": model, "messages": messages, "max_tokens": 4, "temperature": 0, **body}


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def children_cpu_seconds() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

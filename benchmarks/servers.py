"""The servers that are measured: ours and its peers, each a process of its own on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from table import ROOT, THREADS

PEERS = ROOT / ".venv-peers" / "bin"
MAX_SLOTS = 16
READY_TIMEOUT_S = 300
# The demo model's special tokens: none of them is to end an answer, or to take the place of a token with text.
NO_END = {"logit_bias": {"0": -100, "1": -100, "2": -100}}
# `transformers serve` samples them, and goes on: no token has this number.
_NO_END_TRANSFORMERS = {"eos_token_id": -1, "pad_token_id": 2, "do_sample": False}


@dataclass(frozen=True)
class Server:
    """How a server is started and spoken to.

    Attributes:
        command: with `{port}` in the place of the port.
        model: what requests call the model.
        extra: fields of a request beyond OpenAI's, so that answers have their full length.
        folder: where it runs.
    """

    name: str
    command: tuple[str, ...]
    model: str
    extra: dict[str, Any] = field(default_factory=dict)
    folder: Path = ROOT

    @contextlib.contextmanager
    def run(self) -> Iterator[str]:
        """Start it and wait until it answers; gives its URL.

        Raises:
            RuntimeError: it ended, or does not answer, with the end of its output.
        """
        port = _free_port()
        command = [part.format(port=port) for part in self.command]
        log = Path(os.environ.get("TMPDIR", "/tmp")) / f"lqmf-benchmark-{self.name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=self.folder, env=_environment()
            )
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not self._answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{self.name} does not answer:\n{log.read_text(errors='replace')[-2000:]}"
                    )
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _answers(self, url: str) -> bool:
        body = {"model": self.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=READY_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def ours(model: str, folder: Path = ROOT, *settings: str) -> Server:
    """`mode=serve`, as a user runs it."""
    command = (
        sys.executable,
        "-m",
        "lqmf_runner",
        "mode=serve",
        "server.port={port}",
        "tracking=none",
        *(settings or (f"model={model}",)),
    )
    return Server("ours", command, model, {"ignore_eos": True, **NO_END}, folder)


def native(path: str, *more: str, threads: int = THREADS) -> Server:
    """llama.cpp's own server, of the same sources and with the same flags as our llama-cpp-python.

    Args:
        more: options beside the ones that all comparisons have.
    """
    command = (
        str(PEERS.parent / "llama-server"),
        *(
            "--model",
            path,
            "--port",
            "{port}",
            "--parallel",
            str(MAX_SLOTS),
            "--ctx-size",
            str(MAX_SLOTS * 1024),
        ),
        *("--threads", str(threads), "--threads-batch", str(threads)),
        *more,
    )
    return Server("native llama.cpp server", command, "model", {"ignore_eos": True, "cache_prompt": True})


def llama_cpp_python(path: str, threads: int = THREADS) -> Server:
    """The server that comes with llama-cpp-python: one request at a time."""
    command = (
        str(PEERS / "python"),
        "-m",
        "llama_cpp.server",
        "--model",
        path,
        "--port",
        "{port}",
        "--n_threads",
        str(threads),
        "--n_threads_batch",
        str(threads),
        "--n_ctx",
        "2048",
        "--interrupt_requests",  # by default a new request ends the one that is being answered
        "False",
    )
    return Server("llama_cpp.server", command, "model", NO_END)


def transformers_serve(path: str, *, continuous: bool) -> Server:
    """`transformers serve`."""
    batching = ("--continuous-batching",) if continuous else ()
    command = (
        str(PEERS / "transformers"),
        "serve",
        path,
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        *batching,
    )
    name = f"transformers serve{' --continuous-batching' if continuous else ''}"
    return Server(name, command, path, {"generation_config": json.dumps(_NO_END_TRANSFORMERS)})


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _environment() -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GPTQMODEL_CPU_WORKERS": str(THREADS)}
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(THREADS), **offline}

"""Our figures of a server beside those of guidellm for the same server, prompts, lengths and concurrency."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import ROOT, Row, row

CONCURRENCY = (1, 4, 8)
REQUESTS = 32
N_TOKENS = 64
GUIDELLM = ROOT / ".venv-peers" / "bin" / "guidellm"
PROMPTS = [
    f"Round {i}: tell me in plain words how {what} comes about, and why it matters to people."
    for i, what in enumerate(
        ["rain", "a rainbow", "salt in the sea", "wind", "soil", "coal", "an echo", "a tide"]
        * (REQUESTS // 8)
    )
]

Figures = dict[str, float]


async def agreement(repeats: int) -> AsyncIterator[Row]:
    """TTFT, ITL and output tok/s of our benchmark over guidellm's; on a server of known timings, and on the demo.

    guidellm gets one process: with its ten, it takes from the demo's server the cores that it measures.
    """
    if not GUIDELLM.exists():
        print("agreement: skipped, run `make peers` first")
        return
    for label, serve in SERVERS.items():
        with serve() as server, tempfile.TemporaryDirectory() as folder:
            for users in CONCURRENCY:
                found: dict[str, list[Figures]] = {"ours": [], "guidellm": []}
                for repeat in range(repeats):
                    for name, run in (("ours", _ours), ("guidellm", _guidellm)):
                        figures = await asyncio.to_thread(
                            run, server, users, Path(folder, f"{name}-{users}-{repeat}")
                        )
                        found[name].append(figures)
                for name in found["ours"][0]:
                    ours, theirs = (
                        statistics.median(f[name] for f in found[who]) for who in ("ours", "guidellm")
                    )
                    yield row(
                        f"{label}, {users} concurrent, {name}", ours / theirs, "x",
                        f"ours {ours:.4g}, guidellm {theirs:.4g}", all=found,
                    )  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server that is up, and the name of the model to ask it for."""

    url: str
    model: str


def _ours(server: Server, users: int, folder: Path) -> Figures:
    folder.mkdir()
    entries = "\n".join(f"  - {{id: p{i}, prompt: {json.dumps(text)}}}" for i, text in enumerate(PROMPTS))
    prompts = folder / "conf" / "prompts" / "agreement.yaml"
    prompts.parent.mkdir(parents=True)
    prompts.write_text(f"defaults: [prompts_schema]\nname: agreement\nentries:\n{entries}\n")
    _run(
        sys.executable, "-m", "lqmf_runner", "--config-dir", str(folder / "conf"), "mode=benchmark",
        "model=openai", f"backend.base_url={server.url}/v1", f"backend.remote_model={server.model}",
        "prompts=agreement", "tracking=none",
        f"mode.concurrency=[{users}]", f"mode.requests={REQUESTS}", "mode.warmup=0",
        f"mode.sampling.max_tokens={N_TOKENS}", "mode.sampling.ignore_eos=true", f"hydra.run.dir={folder}",
    )  # fmt: skip
    load = json.loads((folder / "results.json").read_text())["models"][0]["loads"][0]
    assert load["succeeded"] == REQUESTS
    return {
        "TTFT p50, s": load["ttft_s"]["p50"],
        "ITL mean, s": load["itl_s"]["mean"],
        "output tok/s": load["output_tokens_per_s"],
    }


def _guidellm(server: Server, users: int, folder: Path) -> Figures:
    folder.mkdir()
    data, output = folder / "prompts.jsonl", folder / "benchmarks.json"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))
    backend = {
        "kind": "openai_http", "target": server.url, "model": server.model, "max_tokens": N_TOKENS, "http2": False,
        "extras": {"body": {"temperature": 0, "seed": 0, "ignore_eos": True}},
    }  # fmt: skip
    _run(
        str(GUIDELLM), "run", "--backend", json.dumps(backend), "--profile", f"kind=concurrent,streams={users}",
        "--constraint", f"kind=max_requests,count={REQUESTS}", "--data", f"kind=json_file,path={data}",
        "--output", f"kind=json,path={output}", "--disable-console",
    )  # fmt: skip
    benchmark = json.loads(output.read_text())["benchmarks"][0]
    metrics = benchmark["metrics"]
    assert metrics["request_totals"]["successful"] == REQUESTS
    return {
        "TTFT p50, s": metrics["time_to_first_token_ms"]["successful"]["median"] / 1e3,
        "ITL mean, s": metrics["inter_token_latency_ms"]["successful"]["mean"] / 1e3,
        "output tok/s": metrics["output_tokens_per_second"]["successful"]["mean"],
    }


@contextlib.contextmanager
def _our_server() -> Iterator[Server]:
    """The demo GGUF; no prefix reuse, so that a prompt costs the second who sends it as much as the first."""
    with _server(
        lambda port: [
            sys.executable, "-m", "lqmf_runner", "mode=serve", "model=smollm2_gguf", f"server.port={port}",
            "backend.prefix_reuse=false", "tracking=none",
        ]
    ) as url:  # fmt: skip
        yield Server(url, "smollm2_gguf")


@contextlib.contextmanager
def _paced_server() -> Iterator[Server]:
    """Sends the first token after 0.2 s and one every 20 ms, whatever the concurrency."""
    with _server(
        lambda port: [
            str(GUIDELLM), "mock-server", "--port", str(port), "--ttft-ms", "200", "--itl-ms", "20",
            "--output-tokens", str(N_TOKENS), "--model", "paced",
        ]
    ) as url:  # fmt: skip
        yield Server(url, "paced")


@contextlib.contextmanager
def _server(command: Callable[[int], list[str]]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        command(port), cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(f"{url}/v1/models", server)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline or server.poll() is not None:
                raise
            time.sleep(0.2)


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")


def _environment() -> dict[str, Any]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1"}


SERVERS = {"paced server": _paced_server, "demo GGUF": _our_server}

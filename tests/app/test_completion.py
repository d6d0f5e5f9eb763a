"""Completion, as a real bash asks for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lqmf_runner.app.completion import SCRIPTS, candidates

from ..conftest import Run


def test_modes_models_and_options_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quantized-models" / "smollm2_mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert candidates(["be"]) == ["benchmark"]
    assert {"smollm2_gguf", "smollm2_mine"} <= set(candidates(["chat", "smol"]))
    assert candidates(["chat", "smollm2_gguf", "wh"]) == []
    assert "smollm2_bnb4" in candidates(["compare", "smollm2_gguf", "smollm2_b"])
    assert candidates(["serve", "--po"]) == ["--port"]
    assert candidates(["status", ""]) == candidates(["nonsense", "x"]) == []


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lqmf").write_text(f'#!/bin/sh\nexec {sys.executable} -m lqmf_runner "$@"\n')
    (tmp_path / "bin" / "lqmf").chmod(0o755)
    script = (
        f'PATH={tmp_path}/bin:$PATH; eval "$(lqmf --completion bash)"; '
        'COMP_WORDS=(lqmf quantize smollm2_bf); COMP_CWORD=2; _lqmf; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["smollm2_bf16"], done.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shells_can_read_their_scripts(shell: str, run_program: Run) -> None:
    script = run_program("--completion", shell).stdout
    assert "--complete" in script
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n"], input=script, text=True, timeout=60).returncode == 0


def test_another_shell_is_refused(run_program: Run) -> None:
    done = run_program("--completion", "tcsh")
    assert done.returncode == 2
    assert "bash, zsh, fish" in done.stderr

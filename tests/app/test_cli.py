"""The command line: help, options, exit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lqmf_runner import __version__
from lqmf_runner.modes import MODES

from ..conftest import Run
from ..support.server.processes import CPU_SECONDS, children_cpu_seconds


@pytest.mark.parametrize(
    "args", [["--help"], ["mode=models"], ["mode=history", "mode.output=json"]], ids=" ".join
)
def test_who_reads_the_output_may_leave(args: list[str], run_program: Run, closed_pipe: int) -> None:
    done = run_program(*args, stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_log_level_is_refused(run_program: Run) -> None:
    result = run_program("mode=models", env={"LQMF_LOG_LEVEL": "loud"})
    assert result.returncode == 2
    assert "DEBUG, INFO" in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], []])
def test_help_shows_every_mode_with_an_example_at_once(args: list[str], run_program: Run) -> None:
    started = children_cpu_seconds()
    result = run_program(*args)
    took = children_cpu_seconds() - started
    assert result.returncode == 0
    for name, mode in MODES.items():
        assert name in result.stdout
        assert mode.example in result.stdout
    assert took < CPU_SECONDS


@pytest.mark.parametrize("args", [["benchmark", "--help"], ["mode=benchmark", "model=x", "--help"]])
def test_help_of_a_mode_lists_its_options(args: list[str], run_program: Run) -> None:
    result = run_program(*args)
    assert result.returncode == 0
    assert "--concurrency  mode.concurrency" in result.stdout
    assert "--prompts  prompts" in result.stdout


def test_a_pipe_that_stays_open_is_said_to_be_read(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "lqmf_runner", "chat", "no_such_model", "Why?"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        assert "< /dev/null" in process.stderr.readline()
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "unknown model 'no_such_model'" in rest


def test_help_and_the_front_import_nothing_heavy() -> None:
    program = (
        "import sys, lqmf_runner.app.cli as cli; cli.main(['--help']); help_imports = set(sys.modules);"
        "import lqmf_runner.app.hydra;"
        "print('HEAVY', sorted({'hydra', 'torch', 'rich', 'mlflow'} & help_imports),"
        "sorted({'torch', 'transformers', 'llama_cpp', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "HEAVY [] []" in result.stdout


@pytest.mark.parametrize("word", ["--version", "-v", "version"])
def test_version(run_program: Run, word: str) -> None:
    assert run_program(word).stdout == f"lqmf-runner {__version__}\n"


def test_options_may_stand_anywhere(run_program: Run) -> None:
    result = run_program("mode=models", "--cfg", "job", "mode.format=json")
    assert yaml.safe_load(result.stdout)["mode"]["format"] == "json"

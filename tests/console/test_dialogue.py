"""mode=console as a user runs it: what is shown, asked, done and kept, with exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.fixture
def say(run_program: Run, tmp_path: Path) -> Run:
    """Say one sentence, on a machine where no server runs."""

    def run(sentence: str, *more: str) -> subprocess.CompletedProcess[str]:
        runtime = {"LQMF_RUNTIME_DIR": str(tmp_path / "runtime")}
        return run_program("mode=console", f"console.say={sentence}", *more, env=runtime)

    return run


def _entries(tmp_path: Path, session: str = "one-shot") -> list[dict[str, object]]:
    lines = (tmp_path / "outputs" / "console" / session / "transcript.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_dry_run_prints_a_line_of_json_a_step_and_does_nothing(say: Run, tmp_path: Path) -> None:
    result = say("load qwen bnb4 and benchmark it", "console.dry_run=true")
    assert result.returncode == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {
        "intent": "LOAD_MODEL_API",
        "arguments": {"model": "qwen_bnb4"},
        "confidence": 1.0,
        "layer": "grammar",
    }
    assert second["intent"] == "EXPERIMENT_WITH_MODEL"
    assert second["arguments"] == {"kind": "benchmark", "models": ["qwen_bnb4"]}
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_of_something_else_is_unknown(say: Run) -> None:
    result = say("load the dishwasher", "console.dry_run=true")
    assert result.returncode == 0
    assert json.loads(result.stdout)["intent"] == "UNKNOWN"


def test_a_dry_run_needs_a_sentence(run_program: Run) -> None:
    result = run_program("mode=console", "console.dry_run=true")
    assert result.returncode == 2
    assert "console.say=" in result.stderr


def test_the_command_line_that_does_the_same_is_shown(say: Run, tmp_path: Path) -> None:
    result = say("is the server running?", "server.port=8393")
    assert result.returncode == 0
    assert result.stdout.splitlines() == ["→ lqmf status server.port=8393", "no server is running"]
    (entry,) = _entries(tmp_path)
    assert (entry["say"], entry["intent"]) == ("is the server running?", "SHOW_API_STATUS")


def test_what_is_not_understood_is_named_and_nothing_is_done(say: Run, tmp_path: Path) -> None:
    result = say("stop the dishwasher")
    assert result.returncode == 2
    assert '"dishwasher"' in result.stdout
    assert [entry["outcome"] for entry in _entries(tmp_path)] == ["refused"]


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("benchmark qwen bnb4 with 8 users", "→ lqmf benchmark qwen_bnb4 'mode.concurrency=[8]'"),
        ("stop the server on port 9000", "→ lqmf stop server.port=9000"),
        ("load mistral", "→ lqmf serve mistral_gptq4 server.background=true"),
        (
            "quantize smollm2 bf16 to 8 bit gguf",
            "→ lqmf quantize smollm2_bf16 gguf Q8_0",
        ),
    ],
)
def test_what_takes_minutes_or_stops_something_needs_consent(sentence: str, shown: str, say: Run) -> None:
    result = say(sentence)
    assert result.returncode == 2
    assert shown in result.stdout
    assert "[y/N]" in result.stdout
    assert "console.confirm=false" in result.stdout


def test_a_name_that_may_mean_several_is_asked(say: Run) -> None:
    result = say("load qwen", "console.confirm=false")
    assert result.returncode == 2
    assert "Which model?" in result.stdout
    assert "qwen_gguf" in result.stdout


def test_a_step_that_cannot_be_done_says_what_to_do_first(say: Run) -> None:
    result = say("unload mistral")
    assert result.returncode == 1
    assert 'hint: say "start the server" first' in result.stdout


def test_where_no_server_runs_nobody_is_asked_what_to_unload(say: Run) -> None:
    result = say("unload it")
    assert (result.returncode, "Which model?" in result.stdout) == (1, False)
    assert "error: no server is running" in result.stdout


def test_where_no_server_runs_no_split_is_judged_and_no_model_asked_for(say: Run) -> None:
    result = say("which of the two served versions is better?")
    assert result.returncode == 1
    assert "no server is running, and versions are judged by what one serves" in result.stdout
    assert "hint: for a server that has ended: lqmf compare --served" in result.stdout
    assert "Which model?" not in result.stdout


def test_a_failed_run_is_a_failed_sentence(say: Run, tmp_path: Path) -> None:
    result = say('ask mistral "hello"')
    assert result.returncode == 1
    (entry,) = _entries(tmp_path)
    assert entry["outcome"] == "failed"
    assert entry["error"]
    assert str(entry["error"]) in result.stderr


def test_lines_are_read_where_there_is_no_terminal(tmp_path: Path) -> None:
    typed = "stop the server\nno\nload qwen\n3\nno\nbye\nstatus\n"
    result = subprocess.run(
        [sys.executable, "-m", "lqmf_runner", "mode=console", "console.session=work"],
        input=typed, capture_output=True, text=True, cwd=tmp_path, timeout=60,
        env=os.environ | {"LQMF_RUNTIME_DIR": str(tmp_path / "runtime")},
    )  # fmt: skip
    assert result.returncode == 2, result.stderr  # the last thing that was refused
    assert "lqmf serve qwen_gguf" in result.stdout
    outcomes = [(entry["intent"], entry.get("outcome", "done")) for entry in _entries(tmp_path, "work")]
    assert outcomes == [("STOP_API_SERVER", "refused"), ("LOAD_MODEL_API", "refused"), ("EXIT", "done")]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 100])
def test_a_session_has_a_name_that_a_folder_can_have(name: str, say: Run) -> None:
    result = say("status", f"console.session='{name}'")
    assert result.returncode == 2
    assert "cannot be called" in result.stderr

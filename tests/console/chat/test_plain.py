"""A scripted conversation, a single question and piped input, as a user asks for them, beside a real endpoint."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lqmf_runner.console.chat.plain import PlainChat
from lqmf_runner.types import SamplingParams
from tests.conftest import Run
from tests.support.engine.endpoint import serve
from tests.support.engine.scripted import Say, ScriptedEngine

FAR = ("mode=chat", "model=openai", "prompts=conversation")
HERE = {"NO_PROXY": "127.0.0.1"}


def test_a_script_is_played_with_its_context(run_program: Run) -> None:
    with serve(lambda prompt: f"({len(prompt)} characters)") as endpoint:
        result = run_program(*FAR, f"backend.base_url={endpoint.url}", "mode.script=learn-spanish", env=HERE)
        assert result.returncode == 0, result.stderr
    shown = [line for line in result.stdout.splitlines() if line]
    assert len(shown) == 6
    assert shown[0].startswith("› I want to learn Spanish")
    assert shown[1] == f"({len(shown[0]) - 2} characters)"
    last = [(message["role"], message["content"]) for message in endpoint.bodies[-1]["messages"]]
    assert [role for role, _ in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert last[2][1] == shown[1]


def test_one_question(run_program: Run) -> None:
    with serve(lambda prompt: f"you said {prompt}") as endpoint:
        result = run_program(*FAR, f"backend.base_url={endpoint.url}", "mode.message=hi", env=HERE)
    assert result.stdout == "you said hi\n"


def test_piped_input_is_one_message_and_the_output_is_the_answer(tmp_path: Path) -> None:
    with serve(lambda prompt: f"<{prompt}>") as endpoint:
        command = [sys.executable, "-m", "lqmf_runner", *FAR, f"server.url={endpoint.url}", "model.name=m"]
        result = subprocess.run(
            command, input="one\ntwo\n", cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert (result.returncode, result.stdout) == (0, "<one\ntwo>\n"), result.stderr


@pytest.mark.parametrize(
    ("settings", "why"), [(["mode.script=nobody"], "has no entry 'nobody'"),
                          (["mode.script=trip-japan", "mode.message=x"], "both given")],
)  # fmt: skip
def test_scripts_that_are_not_there_are_refused(settings: list[str], why: str, run_program: Run) -> None:
    result = run_program(*FAR, "backend.base_url=http://127.0.0.1:9/v1", *settings)
    assert result.returncode == 2
    assert why in result.stderr


@pytest.mark.parametrize(
    ("terminal", "shown"), [(True, "a]0;x[2Jb\n\tc\n"), (False, "a\x1b]0;x\x07\x9b\x1b[2J\rb\n\tc\n")]
)
def test_an_answer_does_not_steer_the_terminal(
    terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    engine = ScriptedEngine(lambda *_: [Say(0.0, "a\x1b]0;x\x07\x9b\x1b[2J\rb\n\tc")])
    asyncio.run(PlainChat(engine, SamplingParams()).answer("hi"))
    assert out.getvalue() == shown


def test_an_answer_as_json_that_matches_a_schema(run_program: Run, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    (tmp_path / "city.json").write_text(json.dumps(schema))
    with serve(lambda prompt: '{"city": "Paris"}') as endpoint:
        result = run_program(
            "chat",
            "openai",
            "Where?",
            "--json",
            "--schema",
            "city.json",
            f"backend.base_url={endpoint.url}",
            env=HERE,
        )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert json.loads(said["answer"]) == {"city": "Paris"}
    assert (said["finish_reason"], said["prompt_tokens"], said["completion_tokens"]) == ("stop", 4, 2)
    assert 0 < said["time_to_first_token_s"] <= said["time_s"]
    assert endpoint.bodies[0]["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("text", "why"), [("[1]", "it has to be an object"), ("{", "is not JSON"), (None, "cannot be read")]
)
def test_a_schema_that_is_none_is_refused(
    text: str | None, why: str, run_program: Run, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "s.json").write_text(text)
    result = run_program("chat", "openai", "Where?", "--schema", "s.json")
    assert result.returncode == 2
    assert why in result.stderr

"""A mode is a file with an entry, a line in the registry and a YAML: here it is all in the test."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lqmf_runner.app.arguments import typed_arguments
from lqmf_runner.app.choices.model import choose_model
from lqmf_runner.app.cli import OPTIONS, OPTIONS_WITH_VALUE
from lqmf_runner.app.conf import conf_names
from lqmf_runner.app.schema import group_schemas
from lqmf_runner.app.words import from_words
from lqmf_runner.modes import MODES

from ..conftest import Compose

ADDED = """
import sys
from dataclasses import dataclass
from lqmf_runner.app.cli import main
from lqmf_runner.config import ModeConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.modes import MODES, Mode

@dataclass(frozen=True)
class GreetMode(ModeConfig):
    name: str = "greet"
    whom: str = "world"
    verbose: bool = False

calls = []

def check(config):
    calls.append("check")
    if config.mode.whom == "nobody":
        raise UserInputError("there is nobody to greet", hint="name somebody: mode.whom=Alice")

def plan(config):
    calls.append(f"plan {config.model.name}")
    if config.model.name == "qwen_gguf":
        raise UserInputError("qwen_gguf is not polite")
    return f"hello {config.mode.whom} from {config.model.name}"

def run(context):
    print(*context.plans, sep="\\n")
    if context.config.mode.verbose:
        print(calls)
    return 0

mode = Mode(GreetMode, "greet somebody", "mode=greet mode.whom=Alice", run, check=check, plan=plan, several=True,
            leaves_folder=LEAVES_FOLDER)
MODES[mode.name] = mode
sys.exit(main())
"""
YAML = "# Greet somebody.\ndefaults:\n  - greet_schema\n\nname: greet\nwhom: world\nverbose: false\n"
Added = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Added:
    """The program with one more mode, `greet`."""
    (tmp_path / "own" / "mode").mkdir(parents=True)
    (tmp_path / "own" / "mode" / "greet.yaml").write_text(YAML)

    def run(*args: str, leaves_folder: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ADDED.replace("LEAVES_FOLDER", str(leaves_folder)), *args],
            cwd=tmp_path, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return run


def test_an_added_mode_is_listed(program: Added) -> None:
    help_text = program("--help").stdout
    assert "greet      greet somebody" in help_text
    assert "mode=greet mode.whom=Alice" in help_text


def test_an_added_mode_is_composed_planned_and_run(program: Added, tmp_path: Path) -> None:
    done = program("mode=greet", "mode.whom=Bob", "--config-dir", "own")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello Bob from smollm2_gguf\n", "")
    (folder,) = (tmp_path / "outputs").glob("*/*-greet")
    assert (folder / ".hydra" / "config.yaml").is_file()


def test_several_models_are_planned_each(program: Added) -> None:
    done = program("mode=greet", "models=[smollm2_gguf,smollm2_bnb4]", "--config-dir", "own")
    assert done.stdout.splitlines() == ["hello world from smollm2_gguf", "hello world from smollm2_bnb4"]


def test_a_run_is_checked_and_planned_once(program: Added) -> None:
    words = ("mode=greet", "mode.verbose=true", "models=[smollm2_gguf,smollm2_bnb4]")
    done = program(*words, "--config-dir", "own")
    calls = done.stdout.splitlines()[-1]
    assert calls == str(["check", "plan smollm2_gguf", "plan smollm2_bnb4"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["mode.whom=nobody"], "there is nobody to greet"),
        (["mode.whose=Bob"], "unknown key 'mode.whose'"),
        (["models=[smollm2_gguf,qwen_gguf]"], "qwen_gguf is not polite"),
        (["models=[smollm2_gguf,smollm2_bnb4]", "backend.kv_type=f32"], "unknown key 'backend.kv_type'"),
    ],
)
def test_what_an_added_mode_refuses_leaves_no_folder(
    words: list[str], error: str, program: Added, tmp_path: Path
) -> None:
    done = program("mode=greet", *words, "--config-dir", "own")
    assert done.returncode == 2
    assert error in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_mode_that_leaves_no_folder_says_so_in_its_entry_only(program: Added, tmp_path: Path) -> None:
    done = program("mode=greet", "--config-dir", "own", leaves_folder=False)
    assert (done.returncode, done.stdout) == (0, "hello world from smollm2_gguf\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_entries_are_registered_under_their_schemas_names() -> None:
    for name, mode in MODES.items():
        assert mode.name == name
        assert mode.schema().name == name
        assert mode.example.split()[0] == name


def test_modes_schemas_and_yaml_are_the_same_set() -> None:
    assert set(MODES) == set(conf_names("mode")) == set(group_schemas()["mode"])


def test_every_mode_can_be_imported() -> None:
    for mode in MODES.values():
        assert callable(mode.run)


def test_examples_in_the_registry_compose(compose_config: Compose) -> None:
    for name, mode in MODES.items():
        line = from_words(shlex.split(mode.example), OPTIONS, OPTIONS_WITH_VALUE)
        line = choose_model(line, conf_names("model"), ["quantized-models"])
        assert compose_config(*typed_arguments(line, sweep=False)).mode.name == name

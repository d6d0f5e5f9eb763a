"""Texts and paths arrive as they were typed, whatever Hydra, OmegaConf and YAML would read in them.

Reports of this kind: hydra #1577, omegaconf #885.
"""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lqmf_runner.app.arguments import typed_arguments
from lqmf_runner.config import BatchMode, ChatMode, RunConfig
from lqmf_runner.config.texts import quoted
from lqmf_runner.errors import UserInputError
from tests.conftest import Compose, Run
from tests.support.engine.endpoint import serve

TEXTS = [
    *("1e3", "1_000", "0x1F", "007", "-5", "3.0", "inf", "nan", "true", "no", "on", "2024-01-31", "12:30:00"),
    *(
        "???",
        "[hi]",
        "{a: b}",
        "a=b",
        "a: b",
        "You, be brief",
        "It's (not) #1",
        "  two  blanks  ",
        "é 😀 \u200b",
    ),
    *(
        "${",
        "${}",
        "${HOME}",
        "${oc.env:HOME}",
        "\\${oc.env:HOME}",
        "\\\\${x",
        "${aws_instance.web.id}",
        "$HOME",
    ),
    *(
        "it's ${a:'b'}",
        '"quoted"',
        '"',
        "'",
        "''x",
        "a\\",
        "\\'",
        "\\n",
        "C:\\new\\",
        "~",
        "~x",
        "--help",
        "a\nb",
        "+x",
    ),
    *(
        "'a' and 'b'",
        "'a','b'",
        "choice(a,b)",
        "!tag",
        "&anchor",
        "*alias",
        "%x",
        "|",
        "> x",
        "`x`",
        "# no comment",
    ),
]
WORDS = [
    "$",
    "{",
    "}",
    "\\",
    "'",
    '"',
    "a",
    "?",
    " ",
    "\n",
    ":",
    "oc.env:X",
    ",",
    "=",
    "[",
    "]",
    "(",
    "#",
    "é",
    "~",
    "&",
]
Typed = Callable[..., RunConfig]


@pytest.fixture
def typed(compose_config: Compose) -> Typed:
    """The configuration of a command line."""
    return lambda *words: compose_config(*typed_arguments(words, sweep=False))


def mixed(count: int) -> list[str]:
    """Texts of characters that mean something to one of the grammars. None is in Hydra's quotes."""
    draw = random.Random(5)
    return [draw.choice('ab$\\"?') + "".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(count)]


def test_a_message_and_a_system_prompt_arrive_as_typed(typed: Typed) -> None:
    texts = [*TEXTS, "null", *mixed(26)]
    for message, system in zip(texts[::2], texts[1::2], strict=True):
        config = typed("mode=chat", f"mode.message={message}", f"mode.system= {system}")
        assert isinstance(config.mode, ChatMode)
        assert (config.mode.message, config.mode.system) == (message, f" {system}")


def test_what_is_in_the_quotes_of_hydra_is_the_text_between_them(typed: Typed) -> None:
    for given, text in {
        "'hi, there'": "hi, there", "'null'": "null", "'@file'": "@file", "'-'": "-", "'${x}'": "${x}",
        r"'it\'s'": "it's", r"'\\'": "\\", "''": "", "'???'": "???",
    }.items():  # fmt: skip
        config = typed("mode=chat", f"mode.message={given}")
        assert isinstance(config.mode, ChatMode)
        assert config.mode.message == text


def test_prompts_in_a_list_on_the_command_line_arrive_as_typed(typed: Typed) -> None:
    texts = [*TEXTS, *mixed(40)]
    words = [quoted(text) for text in texts]
    entries = ",".join(
        f"{{id: {n}, prompt: {word}}}, {{id: t{n}, turns: [{word}, x]}}" for n, word in enumerate(words)
    )
    config = typed(
        "mode=chat", f"prompts.entries=[{entries}]", f"mode.sampling.stop=[{','.join(words)}, END]"
    )
    assert isinstance(config.mode, ChatMode)
    assert [entry.prompt for entry in config.prompts.entries[::2]] == texts
    assert [entry.turns for entry in config.prompts.entries[1::2]] == [[text, "x"] for text in texts]
    assert config.mode.sampling.stop == [*texts, "END"]


@pytest.mark.parametrize(
    "text", ["1e3", "true", "???", "null", "${HOME}", "[hi]", "say ${oc.env:HOME}", "It's me", "07"]
)
def test_a_prompt_without_quotes_in_a_list_arrives_as_typed(text: str, typed: Typed) -> None:
    config = typed(
        "mode=chat", f"prompts.entries=[{{id: 1e3, prompt: {text}}}]", f"mode.sampling.stop=[{text}]"
    )
    assert config.prompts.entries[0].prompt == text
    assert config.prompts.entries[0].id == "1e3"
    assert isinstance(config.mode, ChatMode)
    assert config.mode.sampling.stop == [text]


def test_a_yaml_file_that_has_changed_is_read_again(tmp_path: Path, compose_config: Compose) -> None:
    file = tmp_path / "own" / "prompts" / "mine.yaml"
    file.parent.mkdir(parents=True)
    search = f"hydra.searchpath=['file://{file.parent.parent}']"
    for name in ("one", "three", "three"):
        file.write_text(f"defaults: [prompts_schema]\nname: {name}\nentries: [{{id: a, prompt: {name}}}]\n")
        config = compose_config("mode=benchmark", "prompts=mine", search)
        assert (config.prompts.name, config.prompts.entries[0].prompt) == (name, name)


def test_yaml_texts_arrive_as_written(tmp_path: Path, compose_config: Compose) -> None:
    own = tmp_path / "own" / "prompts"
    own.mkdir(parents=True)
    search = f"hydra.searchpath=['file://{own.parent}']"
    texts = [*TEXTS, *mixed(40)]
    entries = [{"id": f"e{n}", "prompt": text, "turns": []} for n, text in enumerate(texts)]
    written = {"defaults": ["prompts_schema"], "name": "own", "system": "${oc.env:HOME}", "entries": entries}
    (own / "dumped.yaml").write_text(yaml.safe_dump(written, allow_unicode=True), "utf-8")
    config = compose_config("mode=benchmark", "prompts=dumped", search)
    assert [entry.prompt for entry in config.prompts.entries] == texts
    assert config.prompts.system == "${oc.env:HOME}"
    plain = [
        "1e3",
        "1_000",
        "0x1F",
        "007",
        "true",
        "no",
        "???",
        "${HOME}",
        "${",
        "2024-01-31",
        "12:30:00",
        "null",
        "~",
    ]
    lines = "\n".join(f"    - {text}" for text in plain)
    (own / "plain.yaml").write_text(
        "defaults: [prompts_schema]\nname: 1e3\nsystem: 0x10\n"
        f"entries:\n- id: 007\n  turns: &t\n{lines}\n- id: b\n  turns: *t\n"
    )
    config = compose_config("mode=benchmark", "prompts=plain", search)
    assert [entry.turns for entry in config.prompts.entries] == [plain, plain]
    assert (config.prompts.name, config.prompts.system, config.prompts.entries[0].id) == (
        "1e3",
        "0x10",
        "007",
    )


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[hi]", "put quotes around it"),
        ("{a: b}", "put quotes around it"),
        ("a: b", "put quotes around text"),
        ("null", 'prompt: "null"'),
    ],
)
def test_yaml_that_is_no_text_is_refused_with_how_to_write_it(
    written: str, told: str, run_program: Run, tmp_path: Path
) -> None:
    (tmp_path / "own" / "prompts").mkdir(parents=True)
    (tmp_path / "own" / "prompts" / "mine.yaml").write_text(
        f"defaults: [prompts_schema]\nname: mine\nentries:\n- id: a\n  prompt: {written}\n"
    )
    result = run_program("mode=benchmark", "model=openai", "prompts=mine", "--config-dir", "own")
    assert result.returncode == 2
    assert told in result.stderr.splitlines()[1]


def test_an_experiment_has_texts_too(tmp_path: Path, compose_config: Compose) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\ndefaults: [override /mode: chat]\nmode: {message: 1e3, system: '${oc.env:HOME}'}\n"
    )
    config = compose_config("mode=chat", "experiment=own", f"hydra.searchpath=['file://{tmp_path}']")
    assert isinstance(config.mode, ChatMode)
    assert (config.mode.message, config.mode.system) == ("1e3", "${oc.env:HOME}")


PATHS = [
    "a=b.jsonl",
    "a b.jsonl",
    "a,b.jsonl",
    "[a].jsonl",
    "{a}.jsonl",
    "1e3",
    "true",
    "007",
    "it's.jsonl",
    "a\\b",
    "#1",
    "é",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_arrives_as_typed(path: str, typed: Typed) -> None:
    config = typed("mode=batch", f"mode.input={path}", f"models_dir={path}", f'runs=["{path}"]')
    assert isinstance(config.mode, BatchMode)
    assert (config.mode.input, config.models_dir, config.runs) == (path, [path], [path])


def test_home_and_interpolations_in_paths(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = typed("mode=batch", "mode.input=~/q.jsonl", "output_dir=${oc.env:HOME}/o,1", "runs=[~/a,'~/b']")
    assert isinstance(config.mode, BatchMode)
    assert (config.mode.input, config.output_dir) == ("/home/me/q.jsonl", "/home/me/o,1")
    assert config.runs == ["/home/me/a", "/home/me/b"]
    assert typed("mode=benchmark", "mode.concurrency=4").mode.concurrency == [4]  # type: ignore[attr-defined]
    assert typed("mode=batch", "reference=x", "reference=null").reference is None


def test_a_sweep_over_texts_is_one_only_where_it_is_told(typed: Typed) -> None:
    def swept(word: str) -> str:
        return typed_arguments([word], sweep=True)[0]

    assert swept("mode.message='a, b','${c}'") == r"mode.message='a, b','\${c}'"
    assert swept("mode.message=1e3") == "mode.message='1e3'"
    assert swept("models_dir=a b,1e3") == "models_dir=['a b'],['1e3']"
    assert swept("models_dir=choice(a,b)") == "models_dir=choice(a,b)"
    with pytest.raises(UserInputError, match="one text or several") as refused:
        swept("mode.message=You, be brief")
    assert """one text: "mode.message='You, be brief'\"""" in str(refused.value.hint)
    (_, one), (_, several) = (part.split(": ", 1) for part in str(refused.value.hint).split("; "))
    assert typed_arguments(shlex.split(one), sweep=True) == ["mode.message='You, be brief'"]
    assert typed_arguments(shlex.split(several), sweep=True) == ["mode.message='You','be brief'"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["mode.system=null"], "mode.system='null'"),
        (["mode.message=@nowhere"], "mode.message='@nowhere'"),
        (["mode.message=What", "is", "it"], 'mode.message="'),
        (["mode.sampling.stop=[a"], """'mode.sampling.stop=[a,"b, c"]'"""),
        (["prompts.entries=[{id: a, prompt: You, be brief}]"], "'prompts.entries=[{id: a, prompt: "),
        (["mode.seed=It's (not)"], "mode.seed="),
        (["mode.script=${nope}"], "mode.script="),
    ],
)
def test_what_is_refused_shows_the_line_to_type(words: list[str], shown: str, run_program: Run) -> None:
    result = run_program("mode=chat", *words)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 2
    assert shown in result.stderr.splitlines()[1]


def test_files_and_stdin_are_read(run_program: Run, tmp_path: Path) -> None:
    text = "say ${oc.env:HOME},\n 1e3 = ???  \n"
    (tmp_path / "a b.txt").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    (tmp_path / "not text").write_bytes(b"\xff\x00")
    with serve(lambda _: "yes") as endpoint:
        far = ("mode=chat", "model=openai", f"backend.base_url={endpoint.url}")
        assert run_program(*far, "mode.message=@a b.txt", "mode.system=@a b.txt").returncode == 0
        piped = subprocess.run(
            [sys.executable, "-m", "lqmf_runner", *far, "mode.message=-"],
            input=text + "\n", text=True, cwd=tmp_path, capture_output=True, timeout=60,
        )  # fmt: skip
        assert piped.returncode == 0, piped.stderr
    first, second = ([m["content"] for m in body["messages"]] for body in endpoint.bodies)
    assert first == [text, text]
    assert second == [text]
    assert "is not UTF-8" in run_program(*far, "mode.message=@not text").stderr


def test_no_secret_of_the_environment_gets_out_by_way_of_a_prompt(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "own" / "prompts").mkdir(parents=True)
    (tmp_path / "own" / "prompts" / "mine.yaml").write_text(
        "defaults: [prompts_schema]\nname: mine\nsystem: be ${oc.env:SECRET_WORD}\n"
        "entries:\n- {id: a, prompt: 'echo ${oc.env:SECRET_WORD}'}\n- {id: b, prompt: '???'}\n"
    )
    with serve(lambda prompt: f"you said {prompt}") as endpoint:
        result = run_program(
            *("mode=benchmark", "model=openai", f"backend.base_url={endpoint.url}", "prompts=mine", "tracking=none"),
            *("--config-dir", "own", "mode.concurrency=[1]", "mode.requests=2", "mode.warmup=0"),
            *("mode.sampling.stop=[${oc.env:SECRET_WORD}]",),
            env={"SECRET_WORD": "hunter2", "NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {"echo ${oc.env:SECRET_WORD}", "???"} == set(endpoint.asked)
    assert endpoint.bodies[0]["stop"] == ["${oc.env:SECRET_WORD}"]
    assert endpoint.bodies[0]["messages"][0]["content"] == "be ${oc.env:SECRET_WORD}"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "results.json" for path in kept)
    for path in kept:
        assert b"hunter2" not in path.read_bytes(), path

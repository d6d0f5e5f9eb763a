"""`lqmf chat model "text"` is a line of settings, and the text in it is the one that was typed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lqmf_runner.app.arguments import typed_arguments
from lqmf_runner.app.cli import OPTIONS, OPTIONS_WITH_VALUE
from lqmf_runner.app.mode_help import attributes, mode_help
from lqmf_runner.app.options import flags, show_at
from lqmf_runner.app.words import from_words, mode_first, shown
from lqmf_runner.config import BatchMode
from lqmf_runner.config.texts import unquoted
from lqmf_runner.errors import UserInputError
from lqmf_runner.modes import MODES

from ..conftest import Compose, Run
from ..field.runs.test_typed_texts import TEXTS
from ..support.engine.endpoint import serve


def settings(*words: str, piped: str = "") -> list[str]:
    return from_words(words, OPTIONS, OPTIONS_WITH_VALUE, lambda: piped)


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("serve qwen_bnb4 server.port=9000", "mode=serve model=qwen_bnb4 server.port=9000"),
        ("serve a b --port 9000 --background", "mode=serve models=[a,b] server.port=9000 server.background=true"),
        ("compare a my_nf4 --reference smollm2_bf16", "mode=compare models=[a,my_nf4] reference=smollm2_bf16"),
        ("compare a 'b c'", "mode=compare models=[a,'b c']"),
        ("benchmark a --concurrency 1,4", "mode=benchmark model=a mode.concurrency=[1,4]"),
        ("batch a customers.csv", "mode=batch model=a mode.input=customers.csv"),
        ("quantize m gguf Q4_K_M", "mode=quantize model=m mode.method=gguf mode.type=Q4_K_M"),
        ("quantize m q8_0", "mode=quantize model=m mode.type=Q8_0 mode.method=gguf"),
        ("quantize m gptq 4bit", "mode=quantize model=m mode.method=gptq mode.bits=4"),
        ("run a why not", "mode=chat model=a mode.message='why not'"),
        ("chat 'why not'", "mode=chat mode.message='why not'"),
        ("chat a -- --help me=now", "mode=chat model=a mode.message='--help me=now'"),
        ("chat a x=3 --max-tokens 9", "mode=chat model=a mode.message='x=3' mode.sampling.max_tokens=9"),
        ("chat a --system=be=brief", "mode=chat model=a mode.system='be=brief'"),
        ("stop 8001", "mode=stop server.port=8001"), ("stop all", "mode=stop mode.all=true"), ("ps", "mode=status"),
        ("history 'q*' --since 7d", "mode=history mode.model='q*' mode.since='7d'"),
        ("console load a and stop", "mode=console console.say='load a and stop'"),
        ("console status --port 9000", "mode=console console.say='status' server.port=9000"),
        ("pull a/b:Q4_K_M --file x --dry-run", "mode=pull model=a/b:Q4_K_M model.file=x mode.dry_run=true"),
        ("chat model=a hi", "mode=chat mode.message='hi' model=a"),
        ("chat --model a hi you", "mode=chat mode.message='hi you' model=a"),
        ("chat a --url http://x", "mode=chat model=a server.url='http://x'"),
        ("chat a --message @q.txt --system @s", "mode=chat model=a mode.message=@q.txt mode.system=@s"),
        ("chat a @q.txt", "mode=chat model=a mode.message='@q.txt'"),
        ("batch gone.csv", "mode=batch mode.input=gone.csv"), ("batch gone", "mode=batch model=gone"),
        ("batch model=a gone", "mode=batch mode.input=gone model=a"),
        ("benchmark a gone.csv", "mode=benchmark model=a prompts=gone.csv"),
        ("console load a --no-confirm", "mode=console console.say='load a' console.confirm=false"),
        ("console load a --confirm false", "mode=console console.say='load a' console.confirm=false"),
        ("chat a --json so", "mode=chat model=a mode.message='so' mode.json=true"),
        ("history --show trend", "mode=history mode.show=trend"),
        ("models --cfg job", "mode=models --cfg job"), ("mode=models format=x", "mode=models format=x"),
    ],
)  # fmt: skip
def test_words_are_settings(line: str, same: str) -> None:
    assert " ".join(settings(*shlex.split(line))) == same


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chatt a", "unknown mode 'chatt' (did you mean chat?)"), ("models x", "cannot read 'x'"),
        ("chat a --max-token 3", "unknown option '--max-token' (did you mean --max-tokens?)"),
        ("chat a --runs b", "unknown option '--runs'"),
        ("chat a --no-seed", "unknown option '--no-seed' (did you mean --seed?)"),
        ("serve a --port", "--port needs a value"), ("batch a b c", "cannot read 'c'"),
        ("stop 8000 8001", "'8000' and '8001' are both server.port"),
        ("stop 8000 --port 8001", "'8000' and '8001' are both server.port"),
        ("serve a model=b", "'a' and 'b' are both model"),
        ("quantize m bnb Q4_K_M", "'bnb' and 'gguf' are both mode.method"),
        ("quantize m int5", "cannot read 'int5'"), ("stop now", "cannot read 'now'"),
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_is_named(line: str, says: str) -> None:
    with pytest.raises(UserInputError) as error:
        settings(*shlex.split(line))
    assert error.value.message == says
    assert error.value.hint


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("tracking=none chat m why", "chat tracking=none m why"),
        ("server.port=9000 backend.n_ctx=64 serve m", "serve server.port=9000 backend.n_ctx=64 m"),
        ("tracking=none ps", "ps tracking=none"), ("chat m tracking=none", "chat m tracking=none"),
        ("mode=chat mode.message=Hello chat", "mode=chat mode.message=Hello chat"),
        ("x=1 chat m", "x=1 chat m"), ("tracking=none chta m", "tracking=none chta m"), ("", ""),
    ],
)  # fmt: skip
def test_settings_may_stand_before_the_mode(line: str, same: str) -> None:
    assert " ".join(mode_first(shlex.split(line))) == same


def test_a_path_with_blanks_is_a_model_and_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings("chat", "my model.gguf") == ["mode=chat", "mode.message='my model.gguf'"]
    (tmp_path / "my model.gguf").touch()
    assert settings("chat", "my model.gguf", "hi") == [
        "mode=chat",
        "model=my model.gguf",
        "mode.message='hi'",
    ]
    assert settings("chat", "why " * 2000)[1].startswith("mode.message=")  # no path is as long


def test_folders_of_runs_are_compared_as_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("outputs/a b", "outputs/sweep/0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "results.json").touch()
    (tmp_path / "model").mkdir()
    assert settings("compare", "outputs/a b", "outputs/sweep") == [
        "mode=compare",
        "runs=['outputs/a b',outputs/sweep]",
    ]
    assert settings("compare", "model", "outputs/sweep") == [
        "mode=compare",
        "models=[model]",
        "runs=[outputs/sweep]",
    ]


# What people type in bash, and the text that it is there.
TYPED = [
    ('"What\'s the capital of France?"', "What's the capital of France?"),
    ('"Paris, London: which is bigger?"', "Paris, London: which is bigger?"),
    ("why is the sky blue?", "why is the sky blue?"),
    ('"a=b"', "a=b"),
    ('"say \\"hi\\""', 'say "hi"'),
    (r"it\'s", "it's"),
    (r"$'two\nlines'", "two\nlines"),
    ('"costs \\$5 & 10%"', "costs $5 & 10%"),
    ('"\\`y\\`"', "`y`"),
    ('"null"', "null"),
    (r"a\ \ b", "a  b"),
    ("Übersetze: café", "Übersetze: café"),
]
DRIVER = """
from lqmf_runner.app.cli import main
for words in {0!r}:
    assert main(words) == 0, words
"""


def test_fifty_texts_typed_in_bash_reach_an_endpoint_unchanged(tmp_path: Path) -> None:
    texts = [*TYPED, *((shlex.quote(text), text) for text in TEXTS if text and text != "null")]
    assert len(texts) >= 50
    with serve(lambda prompt: "yes") as endpoint:
        rest = f"backend.base_url={endpoint.url} tracking=none"
        # `lqmf` in this script hands its words on as bash has read them; one process runs the lines.
        lines = [f"lqmf {rest} chat openai -- {typed}" for typed, _ in texts]
        script = "\n".join(('lqmf() { printf \'%s\\0\' "$#" "$@"; }', *lines))
        words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.split(b"\0")
        read = [_line(words) for _ in texts]
        for line, (typed, text) in zip(read, texts, strict=True):
            message = next(word for word in settings(*line) if word.startswith("mode.message="))
            assert unquoted(message.partition("=")[2]) == text, typed
        asked = read[
            :: len(read) // 10
        ]  # a start of the program takes its time; the way there is the same for all
        done = subprocess.run(
            [sys.executable, "-c", DRIVER.format(asked)],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"NO_PROXY": "127.0.0.1"}, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert endpoint.asked == [text for _, text in texts[:: len(texts) // 10]]


def _line(words: list[bytes]) -> list[str]:
    """The next line's words, taken from the front."""
    n = int(words.pop(0))
    line, words[:n] = [word.decode() for word in words[:n]], []
    return mode_first(line)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_arrives_as_it_was_typed(text: str, compose_config: Compose) -> None:
    words = settings("chat", "smollm2_gguf", "--", text, piped="before")
    arguments = typed_arguments(words, sweep=False)
    assert typed_arguments(shlex.split(shown(words))[1:], sweep=False) == arguments
    assert compose_config(*arguments).mode.message == f"before\n\n{text}"  # type: ignore[attr-defined]


def test_a_question_and_what_is_piped_reach_the_model(tmp_path: Path) -> None:
    with serve(lambda prompt: "yes") as endpoint:
        line = (
            f"{shlex.quote(sys.executable)} -m lqmf_runner chat openai {{}} backend.base_url={endpoint.url}"
        )
        for question, piped in (('It\'s "${HOME}", a=b, [x]?', "a report"), ("", "only this\n")):
            command = (
                f"printf %s {shlex.quote(piped)} | {line.format(shlex.quote(question) if question else '')}"
            )
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert endpoint.asked == ['a report\n\nIt\'s "${HOME}", a=b, [x]?', "only this"]


def test_a_message_of_an_option_is_a_question_too() -> None:
    asked = from_words(
        ["chat", "a", "--message", "-"], OPTIONS, OPTIONS_WITH_VALUE, lambda: pytest.fail("was read")
    )
    assert asked == ["mode=chat", "model=a", "mode.message=-"]
    for how in ("--message=it's", "mode.message=it's", r"mode.message='it\'s'"):
        found = settings("chat", "a", how, piped="a report")
        assert found == ["mode=chat", "model=a", "mode.message='a report\n\nit\\'s'"]
    with pytest.raises(UserInputError, match=r"are both mode\.message"):
        settings("chat", "a", "why", "--message", "how")


def test_show_prints_the_line_and_does_nothing(run_program: Run, tmp_path: Path) -> None:
    done = run_program("compare", "a", "b", "--reference", "c", "--show")
    assert (done.returncode, done.stdout) == (0, "lqmf mode=compare 'models=[a,b]' reference=c\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("chat m --show why", 2), ("chat m -- --show", None), ("history m --show", 2), ("history --show trend", None),
        ("history --show --since 7d", 1), ("history --show trend --show", 3), ("nonsense --show x", 1),
    ],
)  # fmt: skip
def test_show_with_a_value_is_the_setting_of_a_mode_that_has_one(line: str, at: int | None) -> None:
    assert show_at(line.split()) == at


def test_help_is_a_word_too(run_program: Run) -> None:
    assert run_program("help").stdout == run_program("--help").stdout
    assert run_program("help", "chat").stdout == mode_help("chat") + "\n"


@pytest.mark.parametrize("mode", MODES)
def test_help_of_a_mode_has_all_its_options(mode: str) -> None:
    text = mode_help(mode)
    for name in flags(mode):
        assert f"--{name.replace('_', '-')} " in text
    assert MODES[mode].summary in text


def test_help_has_defaults_and_meanings(run_program: Run) -> None:
    said = run_program("batch", "--help").stdout
    assert "--concurrency  mode.concurrency [8]\n      lines in progress at the same time." in said
    assert (
        "mode.sampling.temperature [0.0]\n      0 always takes the likeliest token; higher is more varied. (between 0"
        in said
    )
    assert "(choose one of: jsonl, csv, text, openai)" in said
    assert "(at least 1)" in said
    assert "(between 1 and 2147483648)" in " ".join(said.split())
    assert "--autoload | --no-autoload  server.autoload [true]" in run_program("serve", "--help").stdout
    assert dict(attributes(BatchMode))["input"].startswith("JSONL, CSV")
    assert run_program("nonsense", "--help").returncode == 2


def test_what_follows_two_dashes_is_no_option(run_program: Run) -> None:
    with serve(lambda prompt: prompt) as endpoint:
        line = ("chat", "openai", f"backend.base_url={endpoint.url}", "--", "what is --help --version --show")
        done = run_program(*line, env={"NO_PROXY": "127.0.0.1"})
    assert (done.returncode, done.stdout) == (0, "what is --help --version --show\n"), done.stderr
    words = ("chat", "openai", f"backend.base_url={endpoint.url}", "--show", "--", "--version")
    assert "'--version'" in run_program(*words).stdout


@pytest.mark.parametrize(
    ("typed", "sweep", "written"),
    [
        ("mode.concurrency=4", False, "mode.concurrency=[4]"),
        ("mode.concurrency=4", True, "mode.concurrency=[4]"),
        ("mode.concurrency=1,4", True, "mode.concurrency=[1],[4]"),
        ("mode.concurrency=[1,4]", True, "mode.concurrency=[1,4]"),
    ],
)
def test_a_number_for_a_list_is_a_list_of_one(typed: str, sweep: bool, written: str) -> None:
    assert typed_arguments(["mode=benchmark", typed], sweep=sweep)[1] == written

"""A file as a prompt set: every kind, wherever a set's name may stand, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import openpyxl
import pytest

from lqmf_runner.app.arguments import typed_arguments
from lqmf_runner.app.choices.prompts import MOST, choose_prompts, is_file, name_of_own_entries
from lqmf_runner.app.config_errors import translate
from lqmf_runner.app.words import from_words
from lqmf_runner.config import PromptsConfig
from lqmf_runner.errors import UserInputError
from tests.conftest import Compose, Run

TEXTS = ("What's 2 + 2?", "a=b, ${oc.env:HOME} [c] {d: e}", "null", "ä 漢 😀 # no comment")


def _composed(file: Path, compose_config: Compose) -> PromptsConfig:
    words, _ = choose_prompts(["mode=benchmark", f"prompts={file}"], ["general"], sweep=False)
    return compose_config(*words).prompts


def _jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_lines_of_text_are_prompts_as_they_are(tmp_path: Path, compose_config: Compose) -> None:
    (tmp_path / "mine.txt").write_text("\n".join((*TEXTS, "", "???")))
    prompts = _composed(tmp_path / "mine.txt", compose_config)
    assert prompts.name == "mine"
    assert prompts.system is None
    assert tuple(entry.prompt for entry in prompts.entries) == (*TEXTS, "???")
    assert prompts.entries[0].id == "line 1"


def test_a_table_has_its_prompts_in_the_column_that_is_clear(tmp_path: Path, compose_config: Compose) -> None:
    (tmp_path / "excel.csv").write_text(
        '\ufeffID;Question;Reference\r\n7;"Two\r\nlines?";yes\r\n8;Why?;\r\n;;\r\n'
    )
    first, second = _composed(tmp_path / "excel.csv", compose_config).entries
    assert (first.id, first.prompt, first.reference) == ("7", "Two\r\nlines?", "yes")
    assert (second.id, second.prompt, second.reference) == ("8", "Why?", None)


def test_a_workbook_is_read(tmp_path: Path, compose_config: Compose) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["question"])
    book.active.append(["Why?"])
    book.save(tmp_path / "book.xlsx")
    (entry,) = _composed(tmp_path / "book.xlsx", compose_config).entries
    assert entry.prompt == "Why?"


def test_json_lines_may_have_turns_messages_and_a_system_prompt(
    tmp_path: Path, compose_config: Compose
) -> None:
    user = {"role": "user", "content": "one"}
    lines = _jsonl(
        {"prompt": "a", "system": "Be ${brief}."},
        {"id": "talk", "turns": ["b", "c"], "system": "Be ${brief}.", "topic": "ignored"},
        {"messages": [{"role": "system", "content": "Be ${brief}."}, user, {**user, "content": "two"}]},
    )
    (tmp_path / "q.jsonl").write_text(lines)
    prompts = _composed(tmp_path / "q.jsonl", compose_config)
    assert prompts.system == "Be ${brief}."
    assert [entry.prompt for entry in prompts.entries] == ["a", None, None]
    assert [entry.turns for entry in prompts.entries] == [[], ["b", "c"], ["one", "two"]]
    assert [entry.id for entry in prompts.entries] == ["line 1", "talk", "line 3"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.yaml", "system: Be brief.\nentries:\n  - {id: a, prompt: 1e3}\n"),
        ("own.yml", "defaults: [prompts_schema]\nsystem: Be brief.\nentries:\n  - {id: a, prompt: 1e3}\n"),
    ],
)
def test_yaml_is_as_in_conf_and_has_the_name_of_its_file(
    name: str, text: str, tmp_path: Path, compose_config: Compose
) -> None:
    (tmp_path / name).write_text(text)
    prompts = _composed(tmp_path / name, compose_config)
    assert (prompts.name, prompts.system) == ("own", "Be brief.")
    assert [(entry.id, entry.prompt) for entry in prompts.entries] == [("a", "1e3")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.yaml", '- "one ${x}"\n- {id: "2", prompt: "two"}\n'),
        ("l.json", '["one ${x}", {"prompt": "two"}]'),
        ("m.json", '{"entries": ["one ${x}", {"prompt": "two"}]}'),
        ("m.yaml", 'entries: ["one ${x}", two]'),
        ("n.json", '{"prompt": "one ${x}", "id": "1"}\n{"prompt": "two", "id": "2"}\n'),
    ],
)
def test_a_list_of_texts_is_a_prompt_set(
    name: str, text: str, tmp_path: Path, compose_config: Compose
) -> None:
    (tmp_path / name).write_text(text)
    entries = _composed(tmp_path / name, compose_config).entries
    assert [(entry.id, entry.prompt) for entry in entries] == [("1", "one ${x}"), ("2", "two")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,city\nAnn,Rome\nBob,Oslo\n", "columns are name, city"),
        ("a.jsonl", _jsonl({"prompt": "a", "max_tokens": 5}), "line 1 sets max_tokens"),
        ("a.jsonl", _jsonl({"prompt": "a", "system": "b"}, {"prompt": "c", "system": "d"}), "several system"),
        ("a.jsonl", _jsonl({"prompt": "a"}, {"prompt": "b", "system": "d"}), "several system"),
        ("a.jsonl", _jsonl({"prompt": "a"}, {"prompt": 7}), "line 2 has no text in 'prompt'"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: it is not JSON"),
        ("a.jsonl", _jsonl({"messages": [{"role": "assistant", "content": "a"}]}), "no turns of a user"),
        ("a.jsonl", _jsonl({"custom_id": "1", "body": {}, "url": "x"}), "OpenAI's format"),
        ("a.jsonl", _jsonl({"id": "x", "prompt": "a"}, {"id": "x", "prompt": "b"}), "'x' more than once"),
        ("a.txt", "", "is empty"),
        ("a.txt", "q\n" * (MOST + 1), "more than 5,000 prompts"),
        ("a.json", "[1, 2]", "no list of prompts"),
        ("a.yaml", "system: a\n", "no list of prompts"),
        ("a.yaml", "just text\n", "no list of prompts"),
        ("a.yaml", "- {id: a, prompt: b, promt: c}\n", "unknown key 'promt' (did you mean prompt?)"),
        ("a.yaml", "a: [\n", "a.yaml, line 2"),
    ],
)
def test_what_is_no_prompt_set_is_refused_in_a_line(
    name: str, text: str, message: str, tmp_path: Path, compose_config: Compose
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Exception) as caught:  # some are Hydra's, which the terminal words
        _composed(tmp_path / name, compose_config)
    error = translate(caught.value)
    assert isinstance(error, UserInputError)
    assert message in error.message
    assert "mode.prompt_field" not in error.message + error.hint


def test_a_refused_file_leaves_no_folder(tmp_path: Path, run_program: Run) -> None:
    (tmp_path / "a.csv").write_text("name,city\nAnn,Rome\nBob,Oslo\n")
    done = run_program("mode=benchmark", "model=smollm2_gguf", "prompts=a.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("error: it is not clear which column of a.csv has the prompts")
    assert "hint: call the column prompt" in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("typed", ["missing.txt", "./missing", "/"])
def test_a_file_that_is_not_there_is_named(typed: str) -> None:
    with pytest.raises(UserInputError, match=f"prompts={typed}: "):
        choose_prompts([f"prompts={typed}"], ["general"], sweep=False)


def test_a_misspelled_set_is_told_of_files_too(run_program: Run) -> None:
    done = run_program("mode=benchmark", "prompts=generl")
    assert "unknown prompts 'generl' (did you mean general?)" in done.stderr
    assert "or give a file" in done.stderr


def test_a_configured_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("general", "other"):
        (tmp_path / name).write_text("a\n")
    assert not is_file("general", ["general"])
    assert is_file("other", ["general"])
    assert is_file("general.yaml", ["general"])


def test_a_sweep_takes_files_and_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "q.txt").write_text(f"{folder}\n")
    names = [str(tmp_path / "a" / "q.txt"), "general", str(tmp_path / "b" / "q.txt")]
    (word,), typed = choose_prompts([f"prompts={','.join(names)}"], ["general"], sweep=True)
    first, kept, second = word.removeprefix("prompts=").split(",")
    assert kept == "general"
    assert first != second
    assert typed[f"prompts={first}"] == f"prompts={names[0]}"
    assert typed[f"prompts={second}"] == f"prompts={names[2]}"


def test_words_and_options_take_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.csv").write_text("prompt\na\n")
    for words in (["benchmark", "m", "q.csv"], ["benchmark", "m", "--prompts", "q.csv"]):
        assert from_words(words, set(), set()) == ["mode=benchmark", "model=m", "prompts=q.csv"]
    compared = from_words(["compare", "a", "b", "q.csv"], set(), set())
    assert compared == ["mode=compare", "models=[a,b]", "prompts=q.csv"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (['prompts.entries=[{id: a, prompt: "b"}]'], "custom"),
        (['prompts.entries=[{id: a, prompt: "b"}]', "prompts.name=mine"], "mine"),
        ([], "general"),
    ],
)
def test_entries_of_the_command_line_have_not_the_name_of_the_set_that_they_replace(
    words: list[str], name: str, compose_config: Compose
) -> None:
    typed = typed_arguments(["mode=benchmark", *words], sweep=False)
    assert compose_config(*typed, *name_of_own_entries(typed)).prompts.name == name


def test_an_error_of_a_file_is_no_error_of_another(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("x,y\na,b\nc,d\n")
    with pytest.raises(UserInputError, match="which column"):
        choose_prompts([f"prompts={tmp_path / 'bad.csv'}"], [], sweep=False)


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", '{"prompt": "hi", "turns": 2}\n'), ("a.csv", "prompt,turns\nhi,2\n")]
)
def test_a_number_of_turns_is_a_column_like_any_other(
    name: str, text: str, tmp_path: Path, compose_config: Compose
) -> None:
    (tmp_path / name).write_text(text)
    (entry,) = _composed(tmp_path / name, compose_config).entries
    assert (entry.prompt, list(entry.turns or ())) == ("hi", [])

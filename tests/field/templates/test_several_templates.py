"""Models that bring several chat templates: all the ways in which they do, and transformers' choice.

Reports of this kind: llama.cpp #6484, llama-cpp-python #1336, vllm #5309.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.engine.sandbox.template_process import TemplateProcess
from lqmf_runner.errors import InvalidRequestError, ModelUnusableError
from lqmf_runner.types import Message
from tests.support.models.templates import Found, Reference, make_folder, read_folder, read_gguf

PLAIN = "plain {{ messages[0].content }}"
LOUD = "loud {% if tools %}{{ tools|tojson }}{% endif %}{{ messages[0].content }}"
TWO = {"tool_use": LOUD, "default": PLAIN}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
TALK = [{"role": "user", "content": "hi"}]


@pytest.fixture
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def configured(folder: Path, value: Any) -> Path:
    """A folder whose tokenizer_config.json has this for its chat template, and no file does."""
    make_folder(folder, {"default": PLAIN})
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": value}))
    return folder


def with_files(folder: Path, templates: dict[str, str]) -> Path:
    """The same folder with templates in files of their own."""
    for name, source in templates.items():
        path = folder / "chat_template.jinja"
        if name != "default":
            path = folder / "additional_chat_templates" / f"{name}.jinja"
            path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return folder


def listed(templates: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "template": source} for name, source in templates.items()]


def folders(root: Path) -> Iterator[tuple[str, Path]]:
    for number, order in enumerate(itertools.permutations([*TWO.items(), ("rag", "never")])):
        yield f"list {number}", configured(root / f"list{number}", listed(dict(order)))
        yield f"object {number}", configured(root / f"object{number}", dict(order))
    yield "files", with_files(configured(root / "files", None), TWO)
    yield "files first", with_files(configured(root / "first", "never"), TWO)
    yield "file before a list", with_files(configured(root / "file", listed(TWO)), {"default": LOUD})


def test_a_folder_is_rendered_with_the_template_that_transformers_chooses(
    process: TemplateProcess, tmp_path: Path
) -> None:
    for name, folder in folders(tmp_path):
        process.open(*read_folder(folder))
        reference = Reference(folder)
        assert process.knows_tools, name
        for tools in ((), TOOLS):
            text = process.render((Message("user", "hi"),), tools=tools, options={})
            assert text == reference.render(TALK, tools=tools or None), name


def chosen(process: TemplateProcess, found: Found, tools: Any = ()) -> str:
    process.open(*found)
    return process.render((Message("user", "hi"),), tools=tools, options={})


@pytest.mark.parametrize("templates", [TWO, {"rag": "x", **dict(reversed(TWO.items()))}])
def test_a_gguf_is_rendered_with_the_same(
    templates: dict[str, str], process: TemplateProcess, tmp_path: Path
) -> None:
    found = read_gguf(tmp_path / "model.gguf", templates)
    assert found[0] == templates
    assert chosen(process, found) == "plain hi"
    assert chosen(process, found, TOOLS).startswith("loud [{")
    assert process.knows_tools


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_the_only_template_is_used_whatever_its_name(
    form: str, process: TemplateProcess, tmp_path: Path
) -> None:
    only = {"chat": LOUD}
    found = (
        read_gguf(tmp_path / "model.gguf", only)
        if form == "gguf"
        else read_folder(configured(tmp_path / "folder", listed(only)))
    )
    assert chosen(process, found) == "loud hi"
    assert chosen(process, found, TOOLS).startswith("loud [{")


def test_a_file_for_tools_leaves_the_template_of_the_configuration(
    process: TemplateProcess, tmp_path: Path
) -> None:
    folder = with_files(configured(tmp_path / "folder", PLAIN), {"tool_use": LOUD})
    assert chosen(process, read_folder(folder)) == "plain hi"
    assert chosen(process, read_folder(folder), TOOLS).startswith("loud [{")


def test_several_without_a_default_are_named_where_one_is_needed(process: TemplateProcess) -> None:
    found: Found = ({"tool_use": LOUD, "rag": PLAIN}, {})
    with pytest.raises(InvalidRequestError, match="none is the default: 'rag', 'tool_use'"):
        chosen(process, found)
    assert chosen(process, found, TOOLS).startswith("loud [{")


def test_a_broken_template_is_an_error_only_where_it_is_needed(process: TemplateProcess) -> None:
    found: Found = ({"default": PLAIN, "tool_use": "{% if %}"}, {})
    assert chosen(process, found) == "plain hi"
    assert not process.knows_tools
    with pytest.raises(ModelUnusableError, match="not valid"):
        chosen(process, found, TOOLS)
    with pytest.raises(ModelUnusableError, match="not valid"):
        process.open({"default": "{% if %}", "tool_use": "{{"}, {})


def test_a_default_that_knows_no_tools_is_not_replaced_by_another(process: TemplateProcess) -> None:
    with pytest.raises(InvalidRequestError, match="knows no tools"):
        chosen(process, ({"default": PLAIN, "tools": LOUD}, {}), TOOLS)

"""A format is one file, one entry, one YAML and its extra, and all that depends on formats follows from the entry."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner import formats
from lqmf_runner.app.cli import help_text
from lqmf_runner.app.conf import conf_dir
from lqmf_runner.app.schema import group_schemas
from lqmf_runner.config import BackendConfig, ModelConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.engine.worker.runners import runner_class
from lqmf_runner.engine.worker.runners.base import ModelRunner
from lqmf_runner.errors import UserInputError
from lqmf_runner.formats import FORMATS, Format, check_backend, load_target
from lqmf_runner.formats.base import Recognised
from lqmf_runner.models import discover, locate

from ..conftest import Compose
from ..support.models.tiny import make_checkpoint

PACKAGE = Path(formats.__file__).parent.parent
NAMES = {format.name for format in FORMATS}
# The folders that know one format each. `runs/batch` has a file layout, and `decisions` and `server/route.py` have
# request shapes, that are named "openai" too: those are never compared with a model's format.
# `decisions/api.py` compares with SGLang's shape of a request, which has its name.
KNOW_FORMATS = ("formats", "engine/worker/runners", "decisions/api.py")
every_format = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)


@dataclasses.dataclass(frozen=True)
class SixthBackend(BackendConfig):
    format: str = "sixth"


class SixthRunner:
    """Stands for a runner that is only looked up."""


def recognise_sixth(quantization: Mapping[str, Any] | None) -> Recognised | None:
    return Recognised("six bits", 6) if (quantization or {}).get("quant_method") == "sixth" else None


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    return dict(project["optional-dependencies"])


def requirements(extra: str) -> set[str]:
    """Names of the distributions that an extra asks for, those of the extras in it included."""
    found: set[str] = set()
    for line in extras()[extra]:
        if inner := re.fullmatch(r"lqmf-runner\[(.+)\]", line):
            found.update(*(requirements(name) for name in inner.group(1).split(",")))
        else:
            found.add(re.split(r"[=<>]", line)[0])
    return found


@every_format
def test_yaml_schema_and_entry_agree(format: Format, compose_config: Compose) -> None:
    assert group_schemas()["backend"][format.name] is format.backend
    assert format.backend().format == format.name
    assert (conf_dir() / "backend" / f"{format.name}.yaml").is_file()
    assert compose_config("mode=models", f"backend={format.name}").backend == format.backend()


@every_format
def test_the_extra_brings_the_packages(format: Format) -> None:
    assert format.remote or format.extra
    assert set(format.packages) <= (requirements(format.extra) if format.extra else set())
    if format.extra:
        assert f"[{format.extra}]'" in format.install
        assert requirements(format.extra) <= requirements("all")


@every_format
def test_what_runs_a_format_is_there(format: Format) -> None:
    assert bool(format.runner) != format.remote
    if format.remote:
        assert issubclass(load_target(format.client), EngineClient)
        with pytest.raises(UserInputError, match="no runner"):
            runner_class(format.name)
    else:
        assert issubclass(runner_class(format.name), ModelRunner)
        assert bool(format.recognise) != format.single_file


@every_format
def test_readme_lists_it_with_its_extra(format: Format) -> None:
    rows = [
        line.split("|")[1:-1]
        for line in (PACKAGE.parent / "README.md").read_text().splitlines()
        if "|" in line
    ]
    cells = [(row[0].lower(), row[2].strip()) for row in rows if len(row) == 4]
    extra = f"`{format.extra}`" if format.extra else ""
    assert any(format.label.split()[0].lower() in label and shown == extra for label, shown in cells)


def test_a_yaml_belongs_to_a_format() -> None:
    for file in (conf_dir() / "backend").glob("*.yaml"):
        schemas = re.findall(r"^  - (\w+?)(?:_schema)?$", file.read_text(), re.MULTILINE)
        assert set(schemas) <= NAMES | {"auto"}, file.name


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserInputError, match=r"backend\.format=gguff is not valid") as error:
        check_backend(BackendConfig(format="gguff"))
    assert (
        error.value.hint == "choose one of: auto, gguf, bnb, gptq, transformers, openai, pool, vllm, sglang"
    )
    check_backend(BackendConfig())


def test_a_format_that_is_added_is_known_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sixth = Format(
        "sixth", "Sixth", SixthBackend, runner=f"{__name__}:SixthRunner", recognise=recognise_sixth,
        overhead_mb=6.0, packages=("six",),
    )  # fmt: skip
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, sixth))
    assert group_schemas()["backend"]["sixth"] is SixthBackend
    assert not formats.is_remote("sixth")
    assert runner_class("sixth") is SixthRunner
    assert formats.labels().endswith("unquantized safetensors and Sixth")
    assert "sixth" in help_text()
    assert formats.overhead_mb("sixth") == 6.0
    assert "six" in formats.packages()
    check_backend(SixthBackend())
    folder = make_checkpoint(tmp_path / "six")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "sixth"}})
    )
    (found,) = discover(tmp_path)
    assert (found.format, found.method, found.bits) == ("sixth", "six bits", 6)
    spec = locate(ModelConfig(name="six"), BackendConfig(n_ctx=6), tmp_path)
    assert (spec.format, spec.options["n_ctx"]) == ("sixth", 6)


def test_nothing_outside_compares_with_the_name_of_a_format() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not str(file.relative_to(PACKAGE)).startswith(KNOW_FORMATS)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Compare | ast.MatchValue) and _names_a_format(node)
    ]
    assert found == []


def test_nothing_outside_asks_for_the_settings_of_one_format() -> None:
    settings = {format.backend.__name__ for format in FORMATS}
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not str(file.relative_to(PACKAGE)).startswith(KNOW_FORMATS)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Name) and node.id in settings
    ]
    assert found == []


def _names_a_format(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and part.value in NAMES for part in ast.walk(node))

"""mode=models: the list of models."""

from __future__ import annotations

import json
from pathlib import Path

from ...conftest import Run
from ...support.models.tiny import make_gguf


def test_listing_models_leaves_nothing_behind(run_program: Run, tmp_path: Path) -> None:
    result = run_program("mode=models", "mode.format=json")
    assert result.returncode == 0, result.stderr
    listing = json.loads(result.stdout)
    assert listing["models"] == []
    assert {"smollm2_gguf", "qwen_bnb4"} <= {model["name"] for model in listing["configured"]}
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_models_names_what_is_broken(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "quantized-models" / "broken").mkdir(parents=True)
    (tmp_path / "quantized-models" / "broken" / "config.json").write_text("{")
    result = run_program("mode=models")
    assert result.returncode == 0
    assert "unusable" in result.stdout
    assert "broken: " in result.stdout
    assert "not here" in result.stdout


def test_a_listed_model_can_be_named_whatever_it_is(run_program: Run, tmp_path: Path) -> None:
    folder = tmp_path / "quantized-models"
    (folder / "two").mkdir(parents=True)
    for file in ("bare.gguf", "two/a.gguf", "two/b.gguf"):
        (folder / file).write_bytes(b"GGUF")
    listing = json.loads(run_program("mode=models", "mode.format=json").stdout)
    names = [model["name"] for model in listing["models"]]
    assert names == ["bare", "two--a", "two--b"]
    for name in names:
        result = run_program("mode=chat", "model=local", f"model.name={name}")
        assert result.returncode == 2
        assert "cut short or damaged" in result.stderr


def test_a_pipe_gets_a_whole_line_a_model_without_blanks_at_its_end(run_program: Run, tmp_path: Path) -> None:
    name = "a-model-with-quite-a-long-name-that-leaves-little-room-for-the-rest"
    folder = tmp_path / "quantized-models"
    folder.mkdir()
    make_gguf(folder / f"{name}.gguf")
    lines = run_program("mode=models", env={"COLUMNS": "80"}).stdout.splitlines()
    (line,) = [line for line in lines if name in line]
    assert line.split()[:3] == [name, "ready", "gguf"]
    assert len(line.split()) == len(lines[1].split()) + 2, "a size and a count have units"
    assert lines == [line.rstrip() for line in lines]

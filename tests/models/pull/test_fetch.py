"""What a pull leaves alone."""

from __future__ import annotations

from pathlib import Path

from lqmf_runner.models.pull.fetch import _keep_others


def test_files_that_are_not_part_of_a_pull_are_kept(tmp_path: Path) -> None:
    folder, whole = tmp_path / "model", tmp_path / "whole"
    for place, text in (("mine/notes.txt", "mine"), ("model.gguf", "weights"), ("config.json", "old")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    whole.mkdir()
    (whole / "config.json").write_text("new")
    _keep_others(folder, whole)
    assert {str(p.relative_to(whole)): p.read_text() for p in whole.rglob("*") if p.is_file()} == {
        "mine/notes.txt": "mine", "model.gguf": "weights", "config.json": "new",
    }  # fmt: skip

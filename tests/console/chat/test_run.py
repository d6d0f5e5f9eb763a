"""What a chat says before it loads its model."""

from __future__ import annotations

from pathlib import Path

from ...support.server.processes import MODEL, SECOND, Program


def test_a_server_that_has_the_model_loaded_is_named_once(tmp_path: Path) -> None:
    program = Program(tmp_path)
    ask = ("mode=chat", "model=local", "mode.message=hi", "mode.sampling.max_tokens=2")
    with program.serve() as server:
        here = program.run(*ask, f"model.name={MODEL}")
        assert here.returncode == 0, here.stderr
        assert here.stderr.count("note: ") == 1
        assert f"note: {server.url} has this model loaded; server.url={server.url} asks it" in here.stderr
        there = program.run(*ask, f"model.name={MODEL}", f"server.url={server.url}")
        assert there.returncode == 0, there.stderr
        assert "note: " not in there.stderr
        other = program.run(*ask, f"model.name={SECOND}")
        assert other.returncode == 0, other.stderr
        assert "note: " not in other.stderr

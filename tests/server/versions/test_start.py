"""What a server of versions loads first, and who answers then."""

from __future__ import annotations

import pytest

from lqmf_runner.config import ModelConfig, RunConfig, TrackingConfig
from lqmf_runner.errors import ModelNotFoundError, UserInputError
from lqmf_runner.server.versions import start

from ...support.runs.versions import MemoryRegistry, version


def shares(
    monkeypatch: pytest.MonkeyPatch, name: str, split: dict[str, float], digest: str | None = None
) -> dict[str, dict[str, float]]:
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4, "candidate"))
    monkeypatch.setattr(start, "read_versions", memory.read)
    chosen = [RunConfig(model=ModelConfig(name=name, digest=digest))]
    return start.shares_of_the_start(chosen, split, TrackingConfig())


def test_a_version_answers_its_name(monkeypatch: pytest.MonkeyPatch):
    found = shares(monkeypatch, "x@3", {}, digest="d3")
    assert found == {"x": {"x@3": 1.0}}
    assert start.names_to_load(["x@3", "y"], found) == ["x@3", "y"]
    assert shares(monkeypatch, "a@3", {}) == {}, "a file may be called so"


@pytest.mark.parametrize(("name", "digest"), [("x", None), ("x@3", "d3")])
def test_a_split_of_the_start_loads_its_versions(
    name: str, digest: str | None, monkeypatch: pytest.MonkeyPatch
):
    found = shares(monkeypatch, name, {"champion": 90, "candidate": 10, "4": 0}, digest)
    assert found == {"x": {"x@3": 90, "x@4": 10}}
    assert start.names_to_load([name], found) == ["x@3", "x@4"]
    assert start.names_to_pin(["y", "x"], found) == ["y", "x@3", "x@4"]
    assert start.names_to_pin(["x@3"], found) == ["x@3"]
    with pytest.raises(UserInputError, match="x@champion is an alias") as caught:
        start.names_to_pin(["x@champion"], found)
    assert caught.value.hint == "pin x, or one of its versions: x@3, x@4"


def test_a_split_over_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelNotFoundError, match="no alias nobody"):
        shares(monkeypatch, "x", {"nobody": 1})

"""Which versions mode=versions lists."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.modes.weights.versions import _selected
from tests.support.runs.versions import version

ALL = [version("qwen", 1), version("qwen", 2), version("owner_mini", 1)]


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (None, ["qwen@1", "qwen@2", "owner_mini@1"]), ("qwen", ["qwen@1", "qwen@2"]), ("qwen@2", ["qwen@2"]),
        ("*mini", ["owner_mini@1"]), ("owner/mini", ["owner_mini@1"]), ("gone*", []),
    ],
)  # fmt: skip
def test_a_model_a_version_or_a_pattern_chooses(model: str | None, labels: list[str]) -> None:
    assert [each.label for each in _selected(ALL, model)] == labels


def test_a_model_without_versions_is_named_with_those_that_have_some() -> None:
    with pytest.raises(UserInputError, match="no version of qwne was measured or served") as caught:
        _selected(ALL, "qwne")
    assert caught.value.hint == "models that have versions: qwen, owner_mini"
    assert _selected([], "qwen") == []

"""What the terminal shows of an error."""

from __future__ import annotations

import pytest

from lqmf_runner.app.terminal import report
from lqmf_runner.errors import LqmfError, ModelNotFoundError


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(RuntimeError("it broke")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: RuntimeError: it broke"
    assert len(lines) == 2
    assert "traceback" in lines[1]


def test_an_error_of_ours_brings_its_hint_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ModelNotFoundError("no such model", hint="make one")) == 2
    assert capsys.readouterr().err == "error: no such model\nhint: make one\n"
    assert report(LqmfError("failed")) == 1

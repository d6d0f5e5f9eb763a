"""Which names the console knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lqmf_runner.config import RunConfig, TrackingConfig
from lqmf_runner.console import run
from lqmf_runner.console.understanding.understand import Understanding

from ..support.server.answering import answering_server


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ({"/versions": {"names": {"prod": {"qwen@3": 0.9, "qwen@4": 0.1}}}}, ["prod"]),
        ({}, []),  # it wants a key
    ],
)
def test_names_that_the_running_server_answers_can_be_said(
    answers: dict[str, Any], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(tracking=TrackingConfig(enabled=False), models_dir=str(tmp_path))
    context: Any = SimpleNamespace(config=config, model_names=["smollm2_gguf"])
    with answering_server(answers) as record:
        monkeypatch.setattr(run, "find_server", lambda port: record)
        known = [*run.model_names(context), *run.versioned_names(context)]
    assert known == ["smollm2_gguf", *names]
    (step,) = Understanding(known).steps("chat with prod")
    assert (step.arguments.get("model") == "prod") is bool(names)

"""Layers that are written out give what transformers' modules give. The contract suite does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.cpu import written_out
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.types import ModelSpec

from .....support.models.architectures import make_architecture

PROMPT = [3 + 7 * i % 200 for i in range(40)]


def load(folder: Path, format_name: str, dtype: str) -> TransformersRunner:
    options: dict[str, Any] = {"n_ctx": 128, "max_slots": 2, "n_threads": 1, "dtype": dtype, "device": "cpu"}
    if format_name == "bnb":
        options["quantize_on_load"] = "4bit"
    spec = ModelSpec(name="m", format=format_name, path=str(folder), options=options)
    return TransformersRunner.load(spec, lambda share: None)


def answers(runner: TransformersRunner) -> NDArray[np.float32]:
    """Two prompts of different lengths, one of them in chunks, and tokens of both together."""
    steps = [
        [Span(slot=0, tokens=PROMPT[:30], start=0, n_rows=30)],
        [
            Span(slot=1, tokens=PROMPT[:5], start=0, n_rows=1),
            Span(slot=0, tokens=PROMPT[30:], start=30, n_rows=1),
        ],
        [Span(slot=0, tokens=[9], start=40, n_rows=1), Span(slot=1, tokens=[8], start=5, n_rows=1)],
        [Span(slot=1, tokens=[7], start=6, n_rows=1)],
        [Span(slot=1, tokens=[7], start=7, n_rows=0)],
    ]
    return np.concatenate([runner.step(batch).copy() for batch in steps])


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "mistral_window"])
@pytest.mark.parametrize(
    ("format_name", "dtype"),
    [("transformers", "float32"), ("transformers", "bfloat16"), ("bnb", "float32"), ("bnb", "bfloat16")],
)
def test_the_logits_are_those_of_the_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, format_name: str, dtype: str
) -> None:
    folder = make_architecture(tmp_path / "model", architecture)
    with monkeypatch.context() as patch:
        patch.setattr(TransformersRunner, "write_out_layers", lambda self, kind: None)
        expected = answers(load(folder, format_name, dtype))
    runner = load(folder, format_name, dtype)
    assert runner._written is not None
    assert np.array_equal(answers(runner), expected)


def test_another_architecture_keeps_its_modules(tmp_path: Path) -> None:
    runner = load(make_architecture(tmp_path / "model", "gemma2"), "transformers", "float32")
    assert runner._written is None


def test_layers_that_come_out_otherwise_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_architecture(tmp_path / "model", "llama")
    expected = answers(load(folder, "bnb", "float32"))
    monkeypatch.setattr(written_out, "silu", torch.relu)
    runner = load(folder, "bnb", "float32")
    assert runner._written is None
    assert np.array_equal(answers(runner), expected)

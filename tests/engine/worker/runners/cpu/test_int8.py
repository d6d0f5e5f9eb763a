"""8-bit layers of bitsandbytes on a CPU: with activations left as they are, and as bitsandbytes computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.types import ModelSpec

from .....support.models.architectures import Reference, make_architecture
from .....support.models.checkpoints import make_bnb

TOKENS = list(range(5, 45))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("int8")
    return make_bnb(make_architecture(root / "source", "llama"), root / "int8", load_in_8bit=True)


def load(folder: Path, **options: object) -> TransformersRunner:
    options |= {"n_ctx": 64, "max_slots": 1, "n_threads": 1, "dtype": "float32", "device": "cpu"}
    return TransformersRunner.load(
        ModelSpec(name="int8", format="bnb", path=str(folder), options=options), lambda done: None
    )


def logprobs(runner: TransformersRunner) -> np.ndarray:
    logits = runner.step([Span(slot=0, tokens=TOKENS, start=0, n_rows=len(TOKENS))])
    found: np.ndarray = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
    return found


def unpacked(folder: Path, target: Path) -> Path:
    """The checkpoint in float32, each weight w = CB · SCB / 127."""
    from bitsandbytes.nn import Linear8bitLt

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    weights = {
        f"{name}.weight": module.weight.CB.float() * module.weight.SCB[:, None] / 127
        for name, module in model.named_modules()
        if isinstance(module, Linear8bitLt)
    }
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "SCB" not in name and "format" not in name
    }
    del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    plain.load_state_dict(kept | weights, strict=False)
    plain.save_pretrained(target)
    return target


def test_activations_are_left_as_they_are_and_it_is_said(int8: Path, tmp_path: Path) -> None:
    runner = load(int8)
    exact = Reference(unpacked(int8, tmp_path / "plain")).logprobs(TOKENS)
    assert np.abs(logprobs(runner) - exact).max() < 1e-4
    assert any("backend.llm_int8=true" in note for note in runner.info.notes)


def test_the_option_computes_as_bitsandbytes_does(int8: Path) -> None:
    runner = load(int8, llm_int8=True)
    own = Reference(int8).logprobs(TOKENS)
    assert np.abs(logprobs(runner) - own).max() < 1e-4
    assert np.abs(logprobs(load(int8)) - own).max() > 1e-3
    assert not any("int8" in note for note in runner.info.notes)

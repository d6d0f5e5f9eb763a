"""Perplexity, KL divergence and agreement against float64 computations written here, in every kind of engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.quality.fidelity import (
    PositionScores,
    WindowProtocol,
    compare_with_reference,
    record_reference,
)
from lqmf_runner.types import ModelSpec
from tests.engine.architectures import Reference, make_architecture, make_gguf_twin

PROTOCOL = WindowProtocol(size=64, first=32)
RANDOM = np.random.default_rng(7)
TOKENS = RANDOM.integers(3, 250, 64 * 4 + 20).tolist()
OPTIONS = {"max_slots": 4, "n_ctx": 128, "n_batch": 64, "n_threads": 1, "dtype": "float32", "kv_type": "f32"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_architecture(tmp_path_factory.mktemp("models") / "llama", "llama")


def damage(folder: Path, checkpoint: Path, noise: float) -> Path:
    """The same model with noise on its weights, `noise` times their own spread."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data += noise * parameter.data.std() * torch.randn_like(parameter)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def spec(path: Path, **options: object) -> ModelSpec:
    kind = "gguf" if path.suffix == ".gguf" else "transformers"
    return ModelSpec(name=path.stem, format=kind, path=str(path), options=OPTIONS | options)


async def record(path: Path, rows: Path) -> tuple[PositionScores, int]:
    async with await LocalEngine.start(spec(path)) as engine:
        windows = PROTOCOL.cut(TOKENS)
        return await record_reference(engine, windows, PROTOCOL, rows), engine.info.n_vocab


def expected(reference: Path, candidate: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """nll of the candidate, KLD and agreement, from plain transformers in float64."""
    nll, kld, same = [], [], []
    models = [Reference(reference), Reference(candidate)]
    for at in range(0, len(TOKENS) - 63, 64):
        window = TOKENS[at : at + 64]
        p, q = (model.logprobs(window) for model in models)
        for position in range(32, 64):
            nll.append(-q[position - 1][window[position]])
            kld.append((np.exp(p[position - 1]) * (p[position - 1] - q[position - 1])).sum())
            same.append(p[position - 1].argmax() == q[position - 1].argmax())
    return np.array(nll).reshape(4, 32), np.array(kld).reshape(4, 32), np.array(same).reshape(4, 32)


@pytest.mark.parametrize("kind", ["transformers", "gguf"])
async def test_kld_and_likelihood_agree_with_float64(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    other = damage(tmp_path / "other", checkpoint, 0.1)
    nll, kld, same = expected(checkpoint, other)
    reference, candidate = checkpoint, other
    if kind == "gguf":
        reference = make_gguf_twin(tmp_path / "reference.gguf", checkpoint)
        candidate = make_gguf_twin(tmp_path / "candidate.gguf", other)
    (tmp_path / "rows").touch()
    recorded, n_vocab = await record(reference, tmp_path / "rows")
    async with await LocalEngine.start(spec(candidate)) as engine:
        found = await compare_with_reference(
            engine, PROTOCOL.cut(TOKENS), PROTOCOL, tmp_path / "rows", n_vocab
        )
    tolerance = {"transformers": 1e-4, "gguf": 1e-2}[kind]
    assert found.kld is not None
    assert found.nll == pytest.approx(nll, abs=tolerance)
    assert found.kld == pytest.approx(kld, abs=tolerance)
    assert ((found.top == recorded.top) == same).mean() > 0.98
    assert kld.mean() > 0.01

"""Perplexity and KL divergence with a large vocabulary: what the worker holds does not grow with the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.evaluation.fidelity.windows import WindowProtocol, compare_with_reference, record_reference
from lqmf_runner.types import ModelSpec
from tests.support.models.architectures import make_architecture
from tests.support.models.tiny import make_gguf

N_VOCAB = 24_000
PROTOCOL = WindowProtocol()
ROWS_MB = PROTOCOL.scored * N_VOCAB * 2 / 1e6  # of one window
OPTIONS = {"max_slots": 4, "n_ctx": 512, "n_batch": 512, "n_threads": 2, "dtype": "float32", "kv_type": "f32"}


@pytest.mark.parametrize("kind", ["transformers", "gguf"])
async def test_a_longer_text_takes_no_more_memory(kind: str, tmp_path: Path) -> None:
    """Six more windows are 74 MB of distributions, which pass through memory and do not stay there."""
    path = (
        make_gguf(tmp_path / "wide.gguf", n_vocab=N_VOCAB)
        if kind == "gguf"
        else make_architecture(tmp_path / "wide", "llama", n_vocab=N_VOCAB)
    )
    text = np.random.default_rng(0).integers(3, 250, PROTOCOL.size * 10).tolist()
    windows, rows = PROTOCOL.cut(text), tmp_path / "rows"
    rows.touch()
    spec = ModelSpec(name="wide", format=kind, path=str(path), options=OPTIONS)
    async with await LocalEngine.start(spec) as engine:
        assert engine.info.n_vocab == N_VOCAB

        async def peak_mb(count: int) -> float:
            await record_reference(engine, windows[:count], PROTOCOL, rows)
            await compare_with_reference(engine, windows[:count], PROTOCOL, rows, N_VOCAB)
            return (await engine.memory()).peak_rss_mb

        for _ in range(2):  # until as many windows' rows as may be in memory at once have been
            await peak_mb(4)
        short, long = await peak_mb(4), await peak_mb(10)
    assert rows.stat().st_size == pytest.approx(10 * ROWS_MB * 1e6)
    assert long - short < 3 * ROWS_MB

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.types import ModelSpec

from .architectures import ARCHITECTURES, make_architecture, make_gguf_twin

CASES = ["gguf-llama", *(f"transformers-{name}" for name in ARCHITECTURES)]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each architecture, by name."""
    root = tmp_path_factory.mktemp("architectures")
    return {name: make_architecture(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def specs(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Every case of the contract suite, by name."""
    twin = make_gguf_twin(tmp_path_factory.mktemp("gguf") / "twin.gguf", checkpoints["llama"])
    options: dict[str, Any] = {
        "max_slots": 4,
        "n_ctx": 256,
        "n_batch": 32,
        "prefill_chunk": 8,
        "max_queue": 64,
        "dtype": "float32",
        "kv_type": "f32",
    }
    specs = {"gguf-llama": ModelSpec(name="tiny", format="gguf", path=str(twin), options=options)}
    for name, folder in checkpoints.items():
        specs[f"transformers-{name}"] = ModelSpec(
            name="tiny", format="transformers", path=str(folder), options=options
        )
    return specs


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CASES)
async def engine(request: pytest.FixtureRequest, specs: dict[str, ModelSpec]) -> AsyncIterator[LocalEngine]:
    """A worker with a tiny model; four slots, so that requests queue."""
    async with await LocalEngine.start(specs[request.param]) as engine:
        yield engine

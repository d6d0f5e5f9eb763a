from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.types import ModelSpec

from ..support.models.architectures import ARCHITECTURES, Reference, make_architecture, make_gguf_twin

TWINS = ("llama", "qwen2", "mistral", "gemma2")  # llama.cpp knows no sliding window for Mistral
CASES = [
    *(f"gguf-{name}" for name in TWINS),
    *(f"transformers-{name}" for name in ARCHITECTURES),
    "bnb-llama",
]
NOISE = [(7 * i * i + 3 * i) % 250 + 3 for i in range(90)]
# Log-probabilities: float32 in another order of operations; llama.cpp's own kernels; NF4 in other kernels.
TOLERANCE = {"transformers": 1e-3, "gguf": 1e-2, "bnb": 2e-2}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each architecture, by name."""
    root = tmp_path_factory.mktemp("architectures")
    return {name: make_architecture(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def specs(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Every case of the contract suite, by name."""
    options: dict[str, Any] = {
        "max_slots": 4,
        "n_ctx": 256,
        "n_batch": 32,
        "prefill_chunk": 8,
        "max_queue": 64,
        "n_threads": 1,  # more only wait for each other on models this small
        "dtype": "float32",
        "kv_type": "f32",
    }
    root = tmp_path_factory.mktemp("gguf")
    paths = {f"transformers-{name}": folder for name, folder in checkpoints.items()}
    paths |= {f"gguf-{name}": make_gguf_twin(root / f"{name}.gguf", checkpoints[name]) for name in TWINS}
    paths["bnb-llama"] = checkpoints["llama"]
    return {
        case: ModelSpec(
            name=case,
            format=case.split("-")[0],
            path=str(path),
            options=options | ({"quantize_on_load": "4bit"} if case.startswith("bnb") else {}),
        )
        for case, path in paths.items()
    }


@pytest.fixture(scope="session")
def references(checkpoints: dict[str, Path]) -> Callable[[str], Reference]:
    """Plain transformers with the weights of a case, by its name."""

    @functools.cache
    def load(architecture: str, nf4: bool) -> Reference:
        return Reference(checkpoints[architecture], nf4=nf4)

    return lambda case: load(case.split("-")[1], case.startswith("bnb"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CASES)
async def engine(request: pytest.FixtureRequest, specs: dict[str, ModelSpec]) -> AsyncIterator[LocalEngine]:
    """A worker with a tiny model; four slots, so that requests queue."""
    async with await LocalEngine.start(specs[request.param]) as engine:
        yield engine

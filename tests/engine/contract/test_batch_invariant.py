"""With `batch_invariant`, several prompts and answers at once give the very numbers of one at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams

from ...support.models.tiny import make_gguf


@pytest.fixture(scope="module")
def invariant(specs: dict[str, ModelSpec], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """A GGUF whose kernels keep it, a format that computes one request at a time for it."""
    path: Path = make_gguf(tmp_path_factory.mktemp("q8_0") / "model.gguf", q8_0=True)
    gguf = msgspec.structs.replace(specs["gguf-llama"], name="Q8_0", path=str(path))
    return {
        name: msgspec.structs.replace(spec, options={**spec.options, "batch_invariant": True})
        for name, spec in {"gguf": gguf, "bnb": specs["bnb-llama"]}.items()
    }


@pytest.mark.parametrize("name", ["gguf", "bnb"])
async def test_several_prompts_at_once_are_answered_as_one_at_a_time(
    invariant: dict[str, ModelSpec], name: str
) -> None:
    sampling = SamplingParams(max_tokens=12, temperature=0, logprobs=2, ignore_eos=True)
    requests = [
        GenerationRequest(prompt=f"{'many words ' * i}prompt number {i}", sampling=sampling) for i in range(6)
    ]
    async with await LocalEngine.start(invariant[name]) as engine:
        assert engine.info.batch_invariant
        alone = []
        for request in requests:
            await engine.reset_prefix_cache()
            alone.append(await engine.complete(request))
        await engine.reset_prefix_cache()
        together = await asyncio.gather(*map(engine.complete, requests))
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.logprobs for answer in together] == [answer.logprobs for answer in alone]
    assert not any(answer.usage.drafted_tokens for answer in together)

"""A reference that runs once, and models that are held against it, with engines that have no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lqmf_runner.config import FidelityConfig, Prompt, PromptsConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.evaluation.fidelity.comparison import Reference
from lqmf_runner.evaluation.fidelity.plan import FidelityPlan
from lqmf_runner.evaluation.fidelity.reference import prepare_reference
from lqmf_runner.results.quality import Quality
from lqmf_runner.types import ModelSpec
from tests.support.engine.bigram import BigramEngine, table

PROMPTS = PromptsConfig(name="p", entries=[Prompt(id=f"p{i}", prompt=chr(97 + i)) for i in range(5)])
SPEC = ModelSpec(
    name="ref", format="transformers", path="", version="v1", options={"dtype": "auto", "n_ctx": 512}
)


class Loads:
    """Loads engines without weights, and says which."""

    def __init__(self) -> None:
        self.dtypes: list[str] = []
        self.engines: list[BigramEngine] = []
        self.method = "bfloat16"

    async def __call__(self, spec: ModelSpec, on_progress: Callable[[float], None] | None) -> BigramEngine:
        assert all(engine.closed for engine in self.engines), "one model at a time"
        dtype = spec.options["dtype"]
        self.dtypes.append(dtype)
        noise = 0.0 if dtype == "float32" else 0.02
        logits = table() + noise * np.random.default_rng(5).normal(size=(256, 256)).astype(np.float32)
        self.engines.append(BigramEngine(logits, method=self.method, dtype=dtype))
        return self.engines[-1]


class Silent:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def loading(self, model: str, share: float) -> None: ...

    def work_started(self, model: str, what: str, total: int) -> None: ...

    def work_advanced(self, done: int) -> None: ...

    def work_ended(self, model: str, what: str, summary: str) -> None:
        self.ended.append((model, what))


def plan(folder: Path, spec: ModelSpec = SPEC, **config: object) -> FidelityPlan:
    settings = FidelityConfig(**{"max_tokens": 1536, "divergence_tokens": 6, **config})  # type: ignore[arg-type]
    return FidelityPlan.of(settings, spec, PROMPTS, str(folder))


async def prepare(load: Loads, chosen: FidelityPlan) -> Reference:
    return await prepare_reference(chosen, Silent(), load=load)


async def measure(reference: Reference, engine: BigramEngine) -> Quality:
    await reference.check(engine)
    return await reference.compare(engine, "candidate", Silent())


async def test_the_reference_runs_in_float32_and_its_own_dtype_gives_the_noise_floor(tmp_path: Path) -> None:
    load = Loads()
    reference = await prepare(load, plan(tmp_path))
    assert load.dtypes == ["float32", "bfloat16"]
    assert all(engine.closed for engine in load.engines)
    figures = reference.figures
    assert (figures.name, figures.version, figures.dtype, figures.text) == ("ref", "v1", "float32", "shipped")
    assert (figures.tokens, figures.windows, figures.positions) == (1536, 3, 768)
    assert figures.noise_floor is not None
    assert figures.noise_floor.dtype == "bfloat16"
    assert 1e-5 < (figures.noise_floor.kld.mean or 0) < 1e-3


async def test_a_second_run_loads_nothing_and_gives_the_same(tmp_path: Path) -> None:
    first = await prepare(Loads(), plan(tmp_path))
    load = Loads()
    second = await prepare(load, plan(tmp_path))
    assert load.dtypes == []
    assert second.figures == first.figures
    assert second.answers == first.answers


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"version": "v2"}, {}),
        ({}, {"max_tokens": 1024}),
        ({}, {"dtype": "float16"}),
        ({}, {"text": "other.txt"}),
    ],
)
async def test_another_version_text_or_dtype_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], config: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text("another text, " * 200)  # noqa: ASYNC240
    await prepare(Loads(), plan(tmp_path))
    load = Loads()
    await prepare(load, plan(tmp_path, msgspec.structs.replace(SPEC, **change), **config))
    assert load.dtypes
    assert load.engines[0].windows > 0


async def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    await prepare(Loads(), plan(tmp_path, noise_floor=False, divergence_tokens=0))
    load = Loads()
    reference = await prepare(load, plan(tmp_path))
    assert load.dtypes == ["float32", "bfloat16"]
    assert load.engines[0].windows == 0, "its answers alone were missing"
    assert len(reference.answers) == 5


async def test_a_float32_checkpoint_has_no_other_dtype(tmp_path: Path) -> None:
    load = Loads()
    load.method = "float32"
    reference = await prepare(load, plan(tmp_path))
    assert reference.figures.noise_floor is None


async def test_models_are_ranked_by_their_damage(tmp_path: Path) -> None:
    reference = await prepare(Loads(), plan(tmp_path))
    same = await measure(reference, BigramEngine(table()))
    assert same.kld is not None
    assert same.kld.mean == pytest.approx(0, abs=1e-6)
    assert same.perplexity == pytest.approx(reference.figures.perplexity)
    assert same.top1_agreement == 1.0
    assert same.divergence is not None
    assert (same.divergence.median, same.divergence.identical) == (None, 1.0)
    noise = np.random.default_rng(9).normal(size=(256, 256)).astype(np.float32)
    near, far = [await measure(reference, BigramEngine(table() + size * noise)) for size in (0.1, 2.0)]
    assert near.kld is not None
    assert far.kld is not None
    assert far.divergence is not None
    assert 0 < (near.kld.mean or 0) < (far.kld.mean or 0) / 20
    assert (near.top1_agreement or 0) > (far.top1_agreement or 1)
    assert (far.divergence.median or 0) < 6
    assert (near.kld.mean_se or 0) > 0
    assert (near.perplexity_se or 0) > 0
    assert near.kld_histogram is not None
    assert sum(near.kld_histogram.counts) == 768
    assert near.reference == reference.figures


async def test_a_model_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    reference = await prepare(Loads(), plan(tmp_path))

    class Shifted(BigramEngine):
        async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            return [1, *text.encode()]

    with pytest.raises(
        UserInputError, match="tokenizes the evaluation text differently from the reference 'ref'"
    ):
        await measure(reference, Shifted(table()))


def test_an_endpoint_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="runs behind an endpoint"):
        plan(tmp_path, msgspec.structs.replace(SPEC, format="openai"))

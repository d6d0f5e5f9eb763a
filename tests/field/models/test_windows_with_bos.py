"""Windows of perplexity and KLD begin with the BOS that a tokenizer puts before a text.

The kind: models that were trained with a BOS before every text, measured without it. Public reports: lm-evaluation-
harness #1465 (Gemma's perplexity without its BOS is a hundred times too high), llama.cpp's perplexity tool, which puts
the BOS in the place of each window's first token.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.config import FidelityConfig, Prompt, PromptsConfig
from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.evaluation.fidelity.comparison import Reference
from lqmf_runner.evaluation.fidelity.plan import FidelityPlan
from lqmf_runner.evaluation.fidelity.reference import prepare_reference
from lqmf_runner.evaluation.fidelity.windows import WindowProtocol
from lqmf_runner.models.version import content_version
from lqmf_runner.results.quality import Quality
from lqmf_runner.types import ModelSpec

from ...support.models.tiny import make_checkpoint, make_gguf

BOS = 1  # of the tiny models
TEXT = " ".join(f"{n} and {n * n} are {n + n * n}." for n in range(90))
WINDOWS = 2


class Silent:
    """An observer that is told in vain."""

    def loading(self, model: str, share: float) -> None: ...

    def work_started(self, model: str, what: str, total: int) -> None: ...

    def work_advanced(self, done: int) -> None: ...

    def work_ended(self, model: str, what: str, summary: str) -> None: ...


def with_bos(folder: Path) -> Path:
    """The checkpoint's tokenizer puts the BOS before a text from now on."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", BOS)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_model(folder: Path, kind: str, *, bos: bool) -> ModelSpec:
    """A model of which nothing but the BOS before texts depends on `bos`."""
    name = f"{kind}-{'bos' if bos else 'plain'}"
    if kind == "gguf":
        path = make_gguf(folder / f"{name}.gguf", add_bos=bos)
    else:
        path = make_checkpoint(folder / name)
        path = with_bos(path) if bos else path
    options = {
        "max_slots": 2,
        "n_ctx": 512,
        "n_batch": 256,
        "n_threads": 1,
        "dtype": "float32",
        "kv_type": "f32",
    }
    return ModelSpec(name=name, format=kind, path=str(path), version=content_version(path), options=options)


async def referred_to(folder: Path, spec: ModelSpec) -> Reference:
    text = folder / "text.txt"
    text.write_text(TEXT)
    config = FidelityConfig(
        text=str(text), max_tokens=512 * WINDOWS, divergence_tokens=0, noise_floor=False, decisions=False
    )
    plan = FidelityPlan.of(
        config, spec, PromptsConfig(name="one", entries=[Prompt(id="a", prompt="Why")]), str(folder)
    )
    return await prepare_reference(plan, Silent())


async def held_against(reference: Reference, spec: ModelSpec) -> Quality:
    async with await LocalEngine.start(spec) as engine:
        await reference.check(engine)
        return await reference.compare(engine, spec.name, Silent())


def by_transformers(folder: str, *, bos: bool) -> float:
    """Perplexity of the scored positions from plain transformers in float64."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokens = AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False).input_ids
    found = []
    for at in range(0, 512 * WINDOWS, 512):
        window = tokens[at : at + 512]
        if bos:
            window[0] = BOS
        with torch.inference_mode():
            logprobs = model(torch.tensor([window])).logits[0].log_softmax(-1)
        found += [-logprobs[position - 1, window[position]].item() for position in range(256, 512)]
    return float(np.exp(np.mean(found)))


def test_the_bos_takes_the_place_of_the_first_token() -> None:
    assert WindowProtocol(4, 2, bos=9).cut(range(11)) == [[9, 1, 2, 3], [9, 5, 6, 7]]


@pytest.mark.parametrize("bos", [True, False])
async def test_perplexity_is_that_of_windows_with_the_bos(tmp_path: Path, bos: bool) -> None:
    spec = make_model(tmp_path, "transformers", bos=bos)
    reference = await referred_to(tmp_path, spec)
    assert reference.figures.bos == (BOS if bos else None)
    assert reference.figures.windows == WINDOWS
    right, wrong = (by_transformers(spec.path, bos=first) for first in (bos, not bos))
    assert reference.figures.perplexity == pytest.approx(right, rel=1e-4)
    assert abs(right / wrong - 1) > 1e-3  # the test would see the difference


async def test_a_gguf_has_its_bos_too_and_a_model_gets_the_windows_of_its_reference(tmp_path: Path) -> None:
    spec, plain = (make_model(tmp_path, "gguf", bos=bos) for bos in (True, False))
    reference, without = await referred_to(tmp_path, spec), await referred_to(tmp_path, plain)
    assert (reference.figures.bos, without.figures.bos) == (BOS, None)
    assert {window[0] for window in reference.stored.windows} == {BOS}
    assert reference.figures.perplexity != pytest.approx(without.figures.perplexity, rel=1e-4)
    found = await held_against(reference, plain)  # the same weights: equal tokens give equal figures
    assert found.kld is not None
    assert found.kld.mean == pytest.approx(0, abs=1e-6)
    assert found.perplexity == pytest.approx(reference.figures.perplexity, rel=1e-6)


async def test_a_kept_reference_belongs_to_its_bos(tmp_path: Path) -> None:
    """The same weights in one folder, before and after its tokenizer learns of the BOS."""
    spec = make_model(tmp_path, "transformers", bos=False)
    before = await referred_to(tmp_path, spec)
    with_bos(Path(spec.path))
    after = await referred_to(tmp_path, spec)
    assert (before.figures.bos, after.figures.bos) == (None, BOS)
    assert after.stored.windows[0][0] == BOS

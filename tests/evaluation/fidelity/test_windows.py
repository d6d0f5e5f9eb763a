"""Perplexity, KL divergence and agreement against float64 computations written here, in every kind of engine.

Also the check of tokenizers, and standard errors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import EngineError, InvalidRequestError, UserInputError
from lqmf_runner.evaluation.fidelity.windows import (
    PositionScores,
    WindowProtocol,
    check_tokenizer,
    compare_with_reference,
    kld_summary,
    mean_estimate,
    perplexity,
    perplexity_ratio,
    record_reference,
    top1_agreement,
)
from lqmf_runner.types import ModelSpec, Window
from tests.support.models.architectures import Reference, make_architecture, make_gguf_twin

from ...support.engine.bigram import BigramEngine, table

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


async def run(
    engine: BigramEngine, folder: Path, reference: np.ndarray | None = None
) -> tuple[PositionScores, PositionScores]:
    """Scores of a model without weights and of its reference, over the windows of TOKENS."""
    windows, rows = PROTOCOL.cut(TOKENS), folder / "rows"
    first = BigramEngine(table() if reference is None else reference)
    recorded = await record_reference(first, windows, PROTOCOL, rows)
    found = await compare_with_reference(engine, windows, PROTOCOL, rows, first.info.n_vocab)
    return found, recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").touch()
    return tmp_path


async def test_known_answers(folder: Path) -> None:
    """A model that knows nothing has the perplexity of its vocabulary; a model is no distance from itself."""
    flat = np.zeros((256, 256), np.float32)
    found, recorded = await run(BigramEngine(flat), folder, flat)
    assert perplexity(recorded).value == pytest.approx(256, rel=1e-5)
    assert perplexity(recorded).se == pytest.approx(0, abs=1e-3)
    assert kld_summary(found).p99 == pytest.approx(0, abs=1e-6)
    assert top1_agreement(found, recorded).value == 1.0
    found, recorded = await run(BigramEngine(flat), folder)
    log_p = table().astype(np.float64)[TOKENS[31:63]]
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    assert found.kld is not None
    assert found.kld[0] == pytest.approx((np.exp(log_p) * log_p).sum(axis=1) + np.log(256), abs=1e-4)
    assert recorded.nll[0] == pytest.approx(-log_p[range(32), TOKENS[32:64]], abs=1e-5)


async def test_more_damage_is_further_away_and_agrees_less(folder: Path) -> None:
    noise = np.random.default_rng(3).normal(0, 1, (256, 256)).astype(np.float32)
    found = [await run(BigramEngine(table() + noise * size), folder) for size in (0.0, 0.1, 0.5, 2.0)]
    means = [kld_summary(scores).mean for scores, _ in found]
    agreements = [top1_agreement(scores, recorded).value for scores, recorded in found]
    assert means == sorted(means)
    assert means[0] == pytest.approx(0, abs=1e-6)
    assert means[3] is not None
    assert means[3] > 10 * means[1]
    assert agreements == sorted(agreements, reverse=True)
    assert agreements[3] < 0.7


async def test_nan_is_named_and_nothing_is_averaged(folder: Path) -> None:
    damaged = table()
    damaged[TOKENS[64 + 40], 17] = np.nan
    at = next(i for i in range(31, 63) if TOKENS[64 + i] == TOKENS[64 + 40])
    with pytest.raises(EngineError, match=rf"NaN or infinite logits at position {at} of window 1"):
        await run(BigramEngine(damaged), folder)


async def test_a_file_of_rows_that_is_cut_short_is_an_error(folder: Path) -> None:
    windows, rows = PROTOCOL.cut(TOKENS), folder / "rows"
    await record_reference(BigramEngine(table()), windows, PROTOCOL, rows)
    rows.write_bytes(rows.read_bytes()[:-100])
    with pytest.raises(EngineError, match="shorter than it was"):
        await compare_with_reference(BigramEngine(table()), windows, PROTOCOL, rows, 256)


async def test_windows_that_cannot_be_scored_are_refused() -> None:
    engine = BigramEngine(table())
    window = Window(tokens=[1, 2, 3], first=0, index=0, rows="", n_vocab=256, record=True)
    with pytest.raises(InvalidRequestError, match="cannot be scored from token 0"):
        await engine.score_window(window)
    with pytest.raises(UserInputError, match="has 20 tokens, a window takes 64"):
        PROTOCOL.cut(TOKENS[:20])
    with pytest.raises(UserInputError, match="a context of 32 tokens, a window takes 64"):
        await record_reference(BigramEngine(table(), n_ctx=32), [TOKENS[:64]], PROTOCOL, Path("rows"))


def test_windows_follow_one_another_and_the_rest_is_dropped() -> None:
    assert WindowProtocol(4, 2).cut(range(11)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert WindowProtocol() == WindowProtocol(size=512, first=256)
    assert WindowProtocol().scored == 256


def test_standard_errors_are_those_of_the_windows_means() -> None:
    values = np.array([[1.0, 3.0], [5.0, 7.0], [3.0, 5.0]])  # means 2, 6 and 4
    estimate = mean_estimate(values)
    assert (estimate.value, estimate.se) == (4.0, pytest.approx(2 / 3**0.5))
    assert mean_estimate(values[:1]).se is None
    scores = PositionScores(values, np.zeros((3, 2), np.int32))
    easier = PositionScores(values - np.array([[0.1], [0.2], [0.3]]), scores.top)
    assert perplexity_ratio(scores, easier).value == pytest.approx(np.exp(0.2))
    assert perplexity_ratio(scores, easier).se == pytest.approx(np.exp(0.2) * 0.1 / 3**0.5)
    assert perplexity(scores).value == pytest.approx(np.exp(4))
    assert perplexity(scores).se == pytest.approx(np.exp(4) * 2 / 3**0.5)


async def test_another_tokenizer_is_refused_and_the_first_difference_named() -> None:
    engine = BigramEngine(table())
    text = "The quick brown fox"
    await check_tokenizer(engine, text, "ref", list(text.encode()))
    await check_tokenizer(engine, text, "ref", list(text.encode())[:8])  # as much of it as is used
    other = list(text.encode())
    other[10] = 65
    with pytest.raises(
        UserInputError, match=r"token 10, after 'The quick ', is token 98 \('b'\) and token 65"
    ):
        await check_tokenizer(engine, text, "ref", other)
    with pytest.raises(UserInputError, match=r"token 19, .* is none and token 33"):
        await check_tokenizer(engine, text, "ref", [*text.encode(), 33])

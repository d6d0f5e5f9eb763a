"""GGUF models made for embeddings: their vectors against plain transformers, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import ContextLengthError, InvalidRequestError, ModelUnusableError
from lqmf_runner.types import GenerationRequest, ModelSpec

from ...support.models.architectures import make_architecture, make_gguf_twin

MEAN, LAST, RANK = 1, 3, 4
TEXTS = ["a cat sleeps", "the dog barks at the cat", "x", "the same words again and again and again"]
WORDS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "the", "cat", "dog", "sleeps"]
OPTIONS = {"n_ctx": 64, "max_slots": 3, "n_threads": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_architecture(tmp_path_factory.mktemp("checkpoint"), "llama")


def spec(checkpoint: Path, folder: Path, pooling: int) -> ModelSpec:
    path = make_gguf_twin(folder / "embedder.gguf", checkpoint, pooling=pooling)
    return ModelSpec(name="embedder", format="gguf", path=str(path), options=OPTIONS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    async with await LocalEngine.start(spec(checkpoint, tmp_path_factory.mktemp("mean"), MEAN)) as engine:
        yield engine


def hidden(checkpoint: Path, tokens: Sequence[int]) -> NDArray[Any]:
    """The last hidden states of plain transformers, a row a token."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(checkpoint, dtype="float32")
    with torch.no_grad():
        return np.asarray(model(torch.tensor([list(tokens)])).last_hidden_state[0])


def unit(vector: NDArray[Any]) -> NDArray[Any]:
    return vector / np.linalg.norm(vector)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_vectors_are_the_mean_of_the_hidden_states(engine: LocalEngine, checkpoint: Path) -> None:
    assert engine.info.embeddings
    tokens = [await engine.tokenize(text) for text in TEXTS]
    answer = await engine.embed(TEXTS)
    expected = [unit(hidden(checkpoint, ids).mean(axis=0)) for ids in tokens]
    np.testing.assert_allclose(answer.vectors, expected, atol=2e-3)
    assert answer.prompt_tokens == sum(map(len, tokens))
    assert (await engine.stats()).prompt_tokens == answer.prompt_tokens
    np.testing.assert_allclose((await engine.embed(tokens)).vectors, answer.vectors, atol=1e-6)


async def test_pooling_is_the_files(checkpoint: Path, tmp_path: Path) -> None:
    async with await LocalEngine.start(spec(checkpoint, tmp_path, LAST)) as engine:
        tokens = await engine.tokenize(TEXTS[1])
        (vector,) = (await engine.embed([TEXTS[1]])).vectors
    np.testing.assert_allclose(vector, unit(hidden(checkpoint, tokens)[-1]), atol=2e-3)


async def test_many_at_once_are_as_one_by_one(engine: LocalEngine) -> None:
    single = [(await engine.embed([text])).vectors[0] for text in TEXTS]
    answers = await asyncio.gather(*(engine.embed(TEXTS) for _ in range(5)))
    for answer in answers:
        np.testing.assert_allclose(answer.vectors, single, atol=1e-5)


async def test_a_text_that_is_too_long_is_refused_with_both_numbers(engine: LocalEngine) -> None:
    with pytest.raises(ContextLengthError, match="65 tokens exceeds the available context size of 64"):
        await engine.embed(["short", [5] * 65])
    with pytest.raises(InvalidRequestError, match="outside the vocabulary"):
        await engine.embed([[5, 10**6]])
    assert len((await engine.embed([[5] * 64])).vectors) == 1


async def test_an_embedding_model_generates_nothing(engine: LocalEngine) -> None:
    with pytest.raises(InvalidRequestError, match="made for embeddings and generates no text"):
        await engine.complete(GenerationRequest(prompt="a"))
    with pytest.raises(InvalidRequestError, match="made for embeddings"):
        await engine.score("a b")


async def test_a_reranker_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusableError, match="reranker"):
        await LocalEngine.start(spec(checkpoint, tmp_path, RANK))


def make_encoder(folder: Path) -> Path:
    """A tiny BERT with random weights: a checkpoint, and `encoder.gguf` beside it."""
    import gguf
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    writer = gguf.GGUFWriter(folder / "encoder.gguf", "bert")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["\u2581" + word if word.isalpha() else word for word in WORDS])
    writer.add_token_types([3 if word.startswith("[") else 1 for word in WORDS])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_sep_token_id(2)
    writer.add_pad_token_id(3)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    for name, weight in model.state_dict().items():
        if ours := names.get_name(name, try_suffixes=(".weight", ".bias")):
            writer.add_tensor(ours, weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "encoder.gguf"


async def test_an_encoder_sees_texts_with_its_marks_around_them(tmp_path: Path) -> None:
    path = make_encoder(tmp_path)
    encoder = ModelSpec(name="encoder", format="gguf", path=str(path), options=OPTIONS)
    async with await LocalEngine.start(encoder) as engine:
        answer = await engine.embed(["the cat", "dog", "the dog sleeps"])
    tokens = [[1, 4, 5, 2], [1, 6, 2], [1, 4, 6, 7, 2]]  # [CLS] and [SEP] around the words
    assert answer.prompt_tokens == sum(map(len, tokens))
    np.testing.assert_allclose(
        answer.vectors, [unit(hidden(tmp_path, ids).mean(axis=0)) for ids in tokens], atol=2e-3
    )

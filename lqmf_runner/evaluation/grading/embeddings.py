"""Similarity of answers to reference answers by embeddings: the cosine of their vectors."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from ...engine.client import EngineClient
from ...results.quality import SimilarityFigures
from .answers import Answers
from .similarity import cosine, standard_error

_TEXTS_AT_ONCE = 64


async def add_embeddings(
    known: SimilarityFigures, client: EngineClient, answers: Answers, references: Mapping[str, str], by: str
) -> SimilarityFigures:
    """The known figures, and the mean cosine of the embeddings of answers and reference answers.

    Args:
        client: the loaded model that gives embeddings; `by` is its name.
        answers: by prompt id; each has a reference answer.

    Raises:
        LqmfError: the model does not give embeddings.
    """
    vectors = await _embed(client, [text or " " for text in answers.values()])
    wanted = await _embed(client, [references[prompt] for prompt in answers])
    near = [cosine(a, b) for a, b in zip(vectors, wanted, strict=True)]
    return msgspec.structs.replace(
        known, embedding=statistics.fmean(near), embedding_se=standard_error(near), embedded_by=by
    )


async def _embed(client: EngineClient, texts: Sequence[str]) -> list[list[float]]:
    found: list[list[float]] = []
    for at in range(0, len(texts), _TEXTS_AT_ONCE):
        found += (await client.embed(texts[at : at + _TEXTS_AT_ONCE])).vectors
    return found

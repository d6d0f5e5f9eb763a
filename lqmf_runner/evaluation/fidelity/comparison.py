"""Compares a loaded model with a reference that has run: perplexity, KL divergence, top-1 agreement, divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...engine.client import EngineClient
from ...engine.on_demand import WorkObserver
from ...results.quality import Histogram, Quality, ReferenceFigures
from ...types import Completion, GenerationRequest
from .decisions import ReferenceDecisions
from .divergence import answer_all, begin_reproducibly, divergence
from .evaluation_text import EvaluationText
from .store import StoredReference
from .windows import (
    PositionScores,
    check_tokenizer,
    compare_with_reference,
    kld_summary,
    perplexity,
    perplexity_ratio,
    top1_agreement,
)

_KLD_EDGES = np.logspace(-6, 1.5, 31)


@dataclass(frozen=True)
class Reference:
    """A reference that has run, with everything that a model is compared with. `prepare_reference` makes it.

    Attributes:
        figures: what the results say of it.
        stored: its distributions, on disk.
        requests, answers: the greedy ones that divergence is measured on, by prompt id.
        divergence_tokens: most tokens of each answer that are compared.
        decisions: what it decided; None where that is not asked for, or it cannot be asked.
        texts: its answers for a judge, by prompt id.
    """

    figures: ReferenceFigures
    stored: StoredReference
    text: EvaluationText
    requests: dict[str, GenerationRequest]
    answers: dict[str, list[int]]
    divergence_tokens: int
    decisions: ReferenceDecisions | None = None
    texts: dict[str, str] = field(default_factory=dict)

    async def check(self, client: EngineClient) -> None:
        """Refuse a model that cannot be compared, before time is spent on it.

        Raises:
            UserInputError: it tokenizes the text differently.
        """
        await check_tokenizer(client, self.text.text, self.figures.name, self.stored.tokens)

    async def compare(self, client: EngineClient, name: str, observer: WorkObserver) -> Quality:
        """Perplexity, KL divergence, top-1 agreement and divergence of a loaded model. `name` is for the observer.

        Decisions are measured by `decisions.compare`, because an endpoint supports them too.

        Raises:
            LqmfError: a request failed, or there is NaN in the logits.
        """
        scores = await score_windows(client, self.stored, name, observer)
        mine, same = perplexity(scores), top1_agreement(scores, self.stored.scores)
        ratio = perplexity_ratio(scores, self.stored.scores)
        parting = None
        if self.requests:
            answers = await ask_greedily(client, self.requests, name, observer)
            parting = divergence(answers, self.answers, self.divergence_tokens)
        return Quality(
            perplexity=mine.value,
            perplexity_se=mine.se,
            perplexity_ratio=ratio.value,
            perplexity_ratio_se=ratio.se,
            kld=kld_summary(scores),
            kld_histogram=_histogram(scores),
            top1_agreement=same.value,
            top1_agreement_se=same.se,
            divergence=parting,
            reference=self.figures,
        )


async def score_windows(
    client: EngineClient,
    stored: StoredReference,
    name: str,
    observer: WorkObserver,
    what: str = "fidelity",
    at_most: int | None = None,
) -> PositionScores:
    """Score the reference's windows, `at_most` so many of them, with another model, and show the progress.

    Raises:
        LqmfError: see `compare_with_reference`.
    """
    windows = stored.windows[:at_most]
    observer.work_started(name, what, len(windows))
    scores = await compare_with_reference(
        client, windows, stored.protocol, stored.rows, stored.record.n_vocab, observer.work_advanced
    )
    same = top1_agreement(scores, stored.scores.head(len(windows))).value
    observer.work_ended(name, what, f"KLD {kld_summary(scores).mean:.2g}  top-1 {same * 100:.1f} %")
    return scores


async def ask_greedily(
    client: EngineClient, requests: Mapping[str, GenerationRequest], name: str, observer: WorkObserver
) -> dict[str, list[int]]:
    """The tokens of the answers to greedy requests, by the requests' keys. No answer depends on the other requests.

    Raises:
        LqmfError: a request failed.
    """
    at_a_time = await begin_reproducibly(client)
    answers = await ask_all(client, requests, name, observer, "greedy answers", at_a_time=at_a_time)
    return {prompt: list(answer.token_ids) for prompt, answer in answers.items()}


async def ask_all(
    client: EngineClient,
    requests: Mapping[str, GenerationRequest],
    name: str,
    observer: WorkObserver,
    what: str,
    *,
    at_a_time: int = 8,
) -> dict[str, Completion]:
    """The answers by the requests' keys, with progress shown as `what`; `at_a_time` requests run together.

    Raises:
        LqmfError: a request failed.
    """
    observer.work_started(name, what, len(requests))
    answers = await answer_all(client, requests, observer.work_advanced, at_a_time=at_a_time)
    observer.work_ended(name, what, f"{len(answers)}")
    return answers


def _histogram(scores: PositionScores) -> Histogram:
    """KL divergences on logarithmic bins from 1e-6 to 32 nats; those outside count in the bins at the ends."""
    assert scores.kld is not None
    inside = np.clip(scores.kld, _KLD_EDGES[0], _KLD_EDGES[-1])
    return Histogram(_KLD_EDGES.tolist(), np.histogram(inside, _KLD_EDGES)[0].tolist())

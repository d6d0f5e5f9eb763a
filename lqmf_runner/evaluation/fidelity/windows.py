"""Perplexity, KL divergence and top-1 agreement of a model against a reference, window by window.

The windows are llama.cpp's: consecutive, not overlapping, each a sequence of its own, only the second half scored, so
that every scored token has at least half a window of context. The engine's worker does the arithmetic on full
distributions (`engine/worker/window_sink.py`); here are the few numbers a position that come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...concurrent import for_each
from ...engine.client import EngineClient
from ...errors import UserInputError
from ...results.quality import KldSummary
from ...types import Window, WindowScore
from .divergence import first_divergence

IN_FLIGHT = 3  # one that runs, one whose rows are read ahead, one in transfer
_CONTEXT_TOKENS = 12

Progress = Callable[[int], None]


@dataclass(frozen=True)
class WindowProtocol:
    """`size` tokens a window; those at positions `first` to `size` - 1 are scored.

    `bos` takes the place of the first token of each window; None where the reference's tokenizer puts none first.
    """

    size: int = 512
    first: int = 256
    bos: int | None = None

    @property
    def scored(self) -> int:
        """Positions scored in each window."""
        return self.size - self.first

    def cut(self, tokens: Sequence[int]) -> list[list[int]]:
        """The whole windows there are; what is left over at the end is dropped.

        Raises:
            UserInputError: there is not even one.
        """
        if len(tokens) < self.size:
            raise UserInputError(
                f"the evaluation text has {len(tokens)} tokens, a window takes {self.size}",
                hint="give a longer text with fidelity.text=, or raise fidelity.max_tokens",
            )
        whole = len(tokens) // self.size * self.size
        windows = [list(tokens[at : at + self.size]) for at in range(0, whole, self.size)]
        if self.bos is not None:
            for window in windows:
                window[0] = self.bos
        return windows


@dataclass(frozen=True)
class PositionScores:
    """The scores of each scored position. All arrays have the shape [windows, scored positions per window].

    Attributes:
        nll: -log p of the token that follows, nats.
        top: the most likely token.
        kld: KL divergence from the reference; None for the reference itself.
    """

    nll: NDArray[np.float64]
    top: NDArray[np.int32]
    kld: NDArray[np.float64] | None = None

    def head(self, n: int) -> PositionScores:
        """Those of the first n windows."""
        return PositionScores(self.nll[:n], self.top[:n], None if self.kld is None else self.kld[:n])


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error, which is None for a single window."""

    value: float
    se: float | None


async def record_reference(
    client: EngineClient,
    windows: Sequence[list[int]],
    protocol: WindowProtocol,
    rows: Path,
    on_progress: Progress = lambda done: None,
) -> PositionScores:
    """Score the windows with the reference model and write its distributions into `rows`, a file that is there.

    Raises:
        LqmfError: see `EngineClient.score_window`.
    """
    return await _each_window(client, windows, protocol, rows, client.info.n_vocab, True, on_progress)


async def compare_with_reference(
    client: EngineClient,
    windows: Sequence[list[int]],
    protocol: WindowProtocol,
    rows: Path,
    n_vocab: int,
    on_progress: Progress = lambda done: None,
) -> PositionScores:
    """Score the same windows with another model and compare its distributions with the recorded ones.

    Raises:
        LqmfError: see `EngineClient.score_window`.
    """
    return await _each_window(client, windows, protocol, rows, n_vocab, False, on_progress)


async def _each_window(
    client: EngineClient,
    windows: Sequence[list[int]],
    protocol: WindowProtocol,
    rows: Path,
    n_vocab: int,
    record: bool,
    on_progress: Progress,
) -> PositionScores:
    info = client.info
    if 0 < info.n_ctx < protocol.size:
        raise UserInputError(
            f"'{info.name}' has a context of {info.n_ctx} tokens, a window takes {protocol.size}",
            hint=f"load it with backend.n_ctx={protocol.size} or more",
        )
    scores: list[WindowScore | None] = [None] * len(windows)
    done = 0

    async def score(index: int) -> None:
        nonlocal done
        scores[index] = await client.score_window(
            Window(
                tokens=windows[index], first=protocol.first, index=index, rows=str(rows),
                n_vocab=n_vocab, record=record,
            )
        )  # fmt: skip
        done += 1
        on_progress(done)

    await for_each(range(len(windows)), score, at_a_time=min(IN_FLIGHT, info.max_slots))
    whole = [score for score in scores if score is not None]
    return PositionScores(
        nll=np.array([score.nll for score in whole]),
        top=np.array([score.top for score in whole], np.int32),
        kld=None if record else np.array([score.kld for score in whole]),
    )


async def check_tokenizer(client: EngineClient, text: str, reference: str, tokens: Sequence[int]) -> None:
    """Check that a model tokenizes the text exactly like the reference.

    Raises:
        UserInputError: it does not; names the first difference.
    """
    ours = await client.tokenize(text)
    at = first_divergence(ours[: len(tokens)], tokens)
    if at is None:
        return
    before = await client.detokenize(ours[max(at - _CONTEXT_TOKENS, 0) : at]) if at else ""
    here = f"token {ours[at]} ({await client.detokenize(ours[at : at + 1])!r})" if at < len(ours) else "none"
    raise UserInputError(
        f"'{client.info.name}' tokenizes the evaluation text differently from the reference '{reference}': token "
        f"{at}, after {before!r}, is {here} and token {tokens[at]} in the reference",
        hint="perplexity and KL divergence compare like with like only: choose a reference with the same tokenizer",
    )


def perplexity(scores: PositionScores) -> Estimate:
    """exp(mean negative log-likelihood); its standard error by the delta method, exp(m) · se(m)."""
    mean = mean_estimate(scores.nll)
    value = float(np.exp(mean.value))
    return Estimate(value, None if mean.se is None else value * mean.se)


def perplexity_ratio(scores: PositionScores, reference: PositionScores) -> Estimate:
    """Perplexity over the reference's: exp(mean of the differences in log-likelihood, position by position).

    How hard the text is cancels, so that it is far surer than either perplexity.
    """
    return perplexity(PositionScores(scores.nll - reference.nll, scores.top))


def top1_agreement(scores: PositionScores, reference: PositionScores) -> Estimate:
    """Share of positions at which both models find the same token the most likely."""
    return mean_estimate((scores.top == reference.top).astype(np.float64))


def kld_summary(scores: PositionScores) -> KldSummary:
    """Mean, its standard error, and percentiles of the KL divergence."""
    assert scores.kld is not None
    mean = mean_estimate(scores.kld)
    median, p90, p99 = np.percentile(scores.kld, (50, 90, 99)).tolist()
    return KldSummary(mean=mean.value, median=median, p90=p90, p99=p99, mean_se=mean.se)


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """Mean over all positions, shape [windows, positions], and its standard error.

    Neighbouring positions are similar in difficulty. So the error is that of the window means (std / √windows), which
    are almost independent. Counting each position as independent would give a too small error.
    """
    means = values.mean(axis=1)
    se = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None
    return Estimate(float(means.mean()), se)

"""Choosing the next token from logits: one sampler for every format, so that settings mean the same in each.

Order of application: logit bias, repetition / presence / frequency penalties, the constraint's mask, temperature,
top-k, top-p, min-p, as in vLLM and transformers. All of it is exact; `largest` finds the top k of a vocabulary
without sorting it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, InvalidRequestError
from ...types import SAMPLING_RANGES, SamplingParams, TokenLogprob
from ..sandbox.constraints import Matcher

Logits = NDArray[np.float32]

_BLOCK = 64
_SUMMED = 256  # weights in a block that is added up by itself
_NUCLEUS_START = 256


def check_sampling(params: SamplingParams) -> None:
    """Refuse settings that make no sense (NaN included).

    Raises:
        InvalidRequestError: names the field, its value and its range.
    """
    for name, (low, high) in SAMPLING_RANGES.items():
        value = getattr(params, name)
        if value is not None and not low <= value <= high:
            raise InvalidRequestError(f"{name}={value} is out of range", hint=f"it goes from {low} to {high}")
    if any(not -100 <= bias <= 100 for bias in params.logit_bias.values()):
        raise InvalidRequestError("a logit_bias is out of range", hint="biases go from -100 to 100")
    if params.constraint is not None and params.ignore_eos:
        raise InvalidRequestError(
            "a constrained answer ends where it is complete: ignore_eos cannot be set with it"
        )


class Sampler:
    """Chooses the tokens of one request. Holds the state of its penalties, seed and constraint.

    Attributes:
        matcher: of the request's constraint; None lets every token be chosen.
    """

    matcher: Matcher | None = None

    def __init__(self, params: SamplingParams, prompt_tokens: Sequence[int], n_vocab: int) -> None:
        self.params = params
        self._counts: dict[int, int] = {}
        self._seen: set[int] = set(prompt_tokens) if params.repetition_penalty != 1.0 else set()
        if any(not 0 <= token < n_vocab for token in params.logit_bias):
            raise InvalidRequestError(
                "logit_bias names a token id outside the vocabulary", hint=f"ids go from 0 to {n_vocab - 1}"
            )
        self._bias_ids = np.fromiter(params.logit_bias.keys(), dtype=np.int64, count=len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), dtype=np.float32, count=len(params.logit_bias))
        self._changes_logits = bool(
            params.logit_bias
            or params.repetition_penalty != 1.0
            or params.presence_penalty
            or params.frequency_penalty
        )
        seed = None if params.seed is None else params.seed & 0xFFFF_FFFF_FFFF_FFFF
        self._random = None if params.temperature == 0 else np.random.Generator(np.random.PCG64(seed))

    def constrain(self, matcher: Matcher) -> None:
        """From now on, choose only what the constraint allows."""
        self.matcher = matcher
        self._changes_logits = True

    def sample(self, logits: Logits) -> int:
        """The next token id for one row of logits, shape [n_vocab]. The row is not changed.

        Raises:
            EngineError: the model produced NaN.
            InvalidRequestError: the constraint cannot be followed any further.
        """
        scores = self._adjust(logits) if self._changes_logits else logits
        if self._random is None:
            token = int(scores.argmax())
            if np.isnan(scores[token]):
                raise nan_error()
        else:
            token = _draw(scores, self.params, self._random.random())
        if self._changes_logits:
            self._counts[token] = self._counts.get(token, 0) + 1
            self._seen.add(token)
            if self.matcher is not None:
                self.matcher.advance(token)
        return token

    def _adjust(self, logits: Logits) -> Logits:
        scores = logits.copy()
        if self._bias_ids.size:
            scores[self._bias_ids] += self._bias
        penalty = self.params.repetition_penalty
        if penalty != 1.0 and self._seen:
            ids = np.fromiter(self._seen, dtype=np.int64, count=len(self._seen))
            values = scores[ids]
            scores[ids] = np.where(values > 0, values / penalty, values * penalty)
        if self._counts and (self.params.presence_penalty or self.params.frequency_penalty):
            ids = np.fromiter(self._counts.keys(), dtype=np.int64, count=len(self._counts))
            counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            scores[ids] -= self.params.presence_penalty + self.params.frequency_penalty * counts
        if self.matcher is not None:
            self.matcher.mask_out(scores)
        return scores


def _draw(scores: Logits, params: SamplingParams, uniform: float) -> int:
    """Inverse-CDF draw from the filtered distribution; `uniform` lies in [0, 1)."""
    top = float(scores.max())
    if not np.isfinite(top):
        raise nan_error()
    ids: NDArray[np.int64] | None = None
    if 0 < params.top_k < scores.shape[0]:
        ids = largest(scores, params.top_k)
    weights = np.divide(scores if ids is None else scores[ids], params.temperature, dtype=np.float64)
    weights -= top / params.temperature
    np.exp(weights, out=weights)
    if params.top_p < 1.0:
        ids, weights = _nucleus(weights, ids, params.top_p)
    if params.min_p > 0.0:
        keep = np.flatnonzero(weights >= params.min_p * weights.max())
        ids = keep if ids is None else ids[keep]
        weights = weights[keep]
    index = _index_at(weights, uniform)
    return index if ids is None else int(ids[index])


def _index_at(weights: NDArray[np.float64], share: float) -> int:
    """The first index up to which the weights add up to more than `share` of their sum, for a share in [0, 1).

    Sums of blocks come first: adding up a whole vocabulary one by one took two thirds of the time of a draw. An index
    with weight 0 is never returned.
    """
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.shape[0], _SUMMED)))
    goal = share * sums[-1]
    block = _first_above(sums, goal)
    start = block * _SUMMED
    within = np.cumsum(weights[start : start + _SUMMED])
    return start + _first_above(within, goal - (sums[block - 1] if block else 0.0))


def _first_above(sums: NDArray[np.float64], value: float) -> int:
    """Index of the first of some ascending sums that exceeds `value`; of the largest sum where rounding leaves none."""
    return int(np.searchsorted(sums, min(value, np.nextafter(sums[-1], 0.0)), side="right"))


def _nucleus(
    weights: NDArray[np.float64], ids: NDArray[np.int64] | None, top_p: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The smallest set of most likely tokens whose share of the weight reaches `top_p` (Holtzman et al. 2020)."""
    goal = top_p * weights.sum()
    k = min(_NUCLEUS_START, weights.shape[0])
    while True:
        order = largest(weights, k)
        cumulative = np.cumsum(weights[order])
        if cumulative[-1] >= goal or k == weights.shape[0]:
            break
        k = min(k * 8, weights.shape[0])
    order = order[: int(np.searchsorted(cumulative, goal)) + 1]
    return (order if ids is None else ids[order]), weights[order]


def largest(values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Indices of the k largest values, largest first, ties by lower index. Exact.

    The k-th largest of the block maxima is a lower bound of the k-th largest value, so only the few values above
    it need sorting. The values of a block lie apart, so that all blocks are compared value by value at once.
    """
    n = values.shape[0]
    whole = n // _BLOCK * _BLOCK
    candidates: NDArray[np.int64] = np.arange(n)
    if k <= whole // _BLOCK:
        maxima = values[:whole].reshape(_BLOCK, -1).max(axis=0)
        bound = np.partition(maxima, -k)[-k]
        candidates = np.flatnonzero(values >= bound).astype(np.int64, copy=False)
    order = np.argsort(-values[candidates], kind="stable")[:k]
    return candidates[order]


def nan_error() -> EngineError:
    """The error for logits that hold NaN, or infinity at the top."""
    return EngineError(
        "the model produced NaN or infinite logits", hint="its weights are damaged, or overflow in this dtype"
    )


def log_sum_exp(logits: Logits) -> float:
    """log Σ exp(logits), computed about the maximum."""
    top = logits.max()
    return float(top) + float(np.log(np.exp(logits - top).sum(dtype=np.float64)))


def token_logprob(
    logits: Logits,
    token: int,
    n_top: int,
    text_of: Callable[[int], str],
    bytes_of: Callable[[int], bytes] | None = None,
) -> TokenLogprob:
    """The log-probability of `token` and of the `n_top` most likely tokens, from one row of raw logits.

    Args:
        text_of: the text of a token by itself.
        bytes_of: what a token adds to the text; left out where only the texts are wanted.
    """
    normalizer = log_sum_exp(logits)
    best = [int(i) for i in largest(logits, n_top)] if n_top else []
    found = TokenLogprob(
        token_id=token,
        text=text_of(token),
        logprob=float(logits[token]) - normalizer,
        top=tuple((i, text_of(i), float(logits[i]) - normalizer) for i in best),
    )
    if bytes_of is None:
        return found
    data, *others = (
        None if (own := bytes_of(i)) == text.encode() else own
        for i, text in ((token, found.text), *((i, text) for i, text, _ in found.top))
    )
    return msgspec.structs.replace(
        found, data=data, top_data=tuple(others) if any(o is not None for o in others) else ()
    )

"""Which replica gets a request.

All is counted in tokens. A replica's work is what it still has to compute for the requests it has: the parts of their
prompts that it does not hold, and what is left of their answers. A new request goes where

    slowness x (work + its own tokens that are not held) - its tokens that are held

is least. So it goes to the least work; a replica that holds a long prefix of the prompt is preferred, and the more so
the longer the prefix is; and a replica that is far behind loses a request that it holds. A token that is held counts
twice, because the next turns of a conversation gain by it too.

Sources. Weighing held tokens against load for each replica, and not a switch for all of them: vLLM production-stack,
"load aware routing", and NVIDIA Dynamo's KV router. SGLang's cache-aware policy (sgl-project/sglang#2114) takes the
replica with the longest prefix unless the loads are out of balance, and then the least loaded one; what was reported
of it since (one busy replica that ends affinity for all, a shared system prompt that fills one replica while others
are idle, a new prompt that is sent to a busy replica) does not arise from one sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

SLOW = 3.0
"""A replica is slow whose tokens take so many times as long as the median of the others."""
SILENT_S = 5.0
"""A replica is slow that has requests and gave no token for so long."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica as the policy sees it.

    Attributes:
        work: tokens that it still has to compute for the requests it has.
        held: tokens of the new prompt that it holds.
        slowness: 1, or how many times slower than the others it is.
        prompts: that it holds at all. Between equals the fewest win, which spreads conversations,
        requests: and then the one that has had the fewest.
    """

    work: float
    held: int = 0
    slowness: float = 1.0
    prompts: int = 0
    requests: int = 0


def choose(candidates: Sequence[Candidate], prompt_tokens: int, output_tokens: int) -> int:
    """The index of the candidate that gets a request of so many tokens. The first of equals."""

    def cost(index: int) -> tuple[float, int, int]:
        of = candidates[index]
        held = min(of.held, prompt_tokens)
        own = prompt_tokens - held + output_tokens
        return of.slowness * (of.work + own) - held, of.prompts, of.requests

    return min(range(len(candidates)), key=cost)


def slowness(pace_s: float | None, paces_s: Sequence[float], silent_s: float) -> float:
    """How many times slower than the others a replica is; 1 where it is not clearly so.

    Args:
        pace_s: seconds of one of its tokens, None where that is not known.
        paces_s: the known paces of all replicas, its own among them, in order.
        silent_s: seconds since its last token, while it has requests.
    """
    ratio = pace_s / _median_of_others(pace_s, paces_s) if pace_s and len(paces_s) > 1 else 1.0
    ratio = ratio if ratio > SLOW else 1.0
    return max(ratio, SLOW * silent_s / SILENT_S) if silent_s >= SILENT_S else ratio


def _median_of_others(own: float, ordered: Sequence[float]) -> float:
    """The median of the ordered numbers without one that equals `own`; no new list for each replica."""
    left_out, n = bisect_left(ordered, own), len(ordered) - 1
    middle = ((n - 1) // 2, n // 2)
    return sum(ordered[i if i < left_out else i + 1] for i in middle) / 2

"""Requests that versions behind one name have served, drawn from known distributions."""

from __future__ import annotations

import random
from typing import Any

from lqmf_runner.results.served import OK, ServedRecord

SHARES = {"x@3": 0.5, "x@4": 0.5}


def served(
    rng: random.Random,
    version: str,
    requests: int,
    *,
    session_of: int = 1,
    ttft_s: float = 0.05,
    gap_s: float = 0.01,
    session_spread: float = 0.0,
    restarted: bool = False,
    **fields: Any,
) -> list[ServedRecord]:
    """So many whole answers, `session_of` to a session, whose times have these means.

    Args:
        restarted: the sessions are others than those of the server before.
        session_spread: how much sessions differ: standard deviation of the logarithm of their factor on all times.
    """
    records = []
    for number in range(requests):
        if number % session_of == 0:
            slow = rng.lognormvariate(-(session_spread**2) / 2, session_spread)
        gaps = rng.randrange(8, 40)
        first, rest = (
            rng.expovariate(1 / ttft_s) * slow,
            sum(rng.expovariate(1 / gap_s) * slow for _ in range(gaps)),
        )
        known = {
            "time": 1000.0 + 10 * number, "name": "x", "shares": SHARES, "outcome": OK, "digest": f"d{version[-1]}",
            "unit": f"{version} {restarted} {number // session_of}", "finish_reasons": ["stop"], "at_once": 1,
            "ttft_s": first, "gaps": gaps, "gaps_s": rest, "e2e_s": first + rest, "output_tokens": gaps + 1,
            "prompt_tokens": 10,
        }  # fmt: skip
        records.append(ServedRecord(version=version, **{**known, **fields}))
    return records

"""`served.jsonl` of a server's folder: a line per request for a name that several versions answered.

It has no prompt, no answer, no key and no session's name. A new file begins at a size, and the last five are kept.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from .files import read_lines

SERVED = "served.jsonl"
KEPT_FILES = 5
OK, FAILED, REFUSED, CANCELLED = "ok", "failed", "refused", "cancelled"


class ServedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has ended. Times are in seconds.

    Attributes:
        time: when it came, since the epoch.
        name: what the client asked for, "qwen".
        version: what answered, "qwen@3"; `digest` that of its weights, empty where it failed before they were held.
        shares: of the versions behind the name at that time.
        unit: equal for requests that were sent to their version together: those of one session, or of one key.
        outcome: ok, failed (5xx, and 429 of a full queue or of the version's endpoint), refused (other 4xx, this
            server's limits for the client among them), or cancelled (the client left).
        finish_reasons: of its answers, as far as they came.
        answers: that were asked for.
        at_once: requests that the version was answering at its first token, itself among them; 0 without a token.
        ttft_s: to the first token; 0 without one.
        e2e_s: to the end.
        gaps, gaps_s: tokens after the first chunk and the time they took together; 0 of several answers, whose tokens
            cannot be distinguished.
    """

    time: float
    name: str
    version: str
    shares: dict[str, float]
    unit: str
    outcome: str
    e2e_s: float
    digest: str = ""
    finish_reasons: list[str] = []
    answers: int = 1
    at_once: int = 0
    ttft_s: float = 0.0
    gaps: int = 0
    gaps_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


def read_served(folder: Path) -> list[ServedRecord]:
    """What a server's folder has, the oldest first; nothing where no name was split."""
    names = [SERVED, *(f"{SERVED}.{number}" for number in range(1, KEPT_FILES + 1))]
    return [record for name in reversed(names) for record in read_lines(folder / name, ServedRecord)]

"""The common parts of chat and completion answers: ids, token counts, log-probabilities."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..types import TokenLogprob, Usage
from .schemas import ChoiceLogprobs, ContentLogprob, PromptTokensDetails, TopLogprob, UsageCounts


def usage_counts(usage: Usage) -> UsageCounts:
    """Token counts as OpenAI's API has them."""
    return UsageCounts(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
    )


def choice_logprobs(logprobs: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    """Log-probabilities as the chat API has them."""
    return ChoiceLogprobs(
        [
            ContentLogprob(token.text, token.logprob, _bytes(token.text, token.data), _alternatives(token))
            for token in logprobs
        ]
    )


def _alternatives(token: TokenLogprob) -> list[TopLogprob]:
    data = token.top_data or (None,) * len(token.top)
    return [
        TopLogprob(text, value, _bytes(text, own))
        for (_, text, value), own in zip(token.top, data, strict=True)
    ]


def _bytes(text: str, own: bytes | None) -> list[int]:
    return list(text.encode() if own is None else own)


def new_id(prefix: str, mark: str = "-") -> str:
    """A unique id of an answer."""
    return f"{prefix}{mark}{random.getrandbits(96):024x}"

"""What OpenAI's chat and completions share: sampling settings, counts, log-probabilities."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from ..errors import FieldError
from ..types import Constraint, SamplingParams, TokenLogprob, Usage
from .schemas import ChoiceLogprobs, ContentLogprob, PromptTokensDetails, Sampled, TopLogprob, UsageCounts

_DURATION = re.compile(r"^(-?\d+(?:\.\d+)?)(ms|s|m|h)?$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
MAX_STOP_LENGTH = 1000


def sampling_params(
    body: Sampled, *, max_tokens: int | None, logprobs: int | None, constraint: Constraint | None = None
) -> SamplingParams:
    """The engine's settings; what was left out or null has OpenAI's default."""

    if body.stream_options is not None and not body.stream:
        raise FieldError("stream_options needs stream=true", param="stream_options")

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=given(body.temperature, 1.0),
        top_k=max(body.top_k or 0, 0),
        top_p=given(body.top_p, 1.0),
        min_p=given(body.min_p, 0.0),
        repetition_penalty=given(body.repetition_penalty, 1.0),
        presence_penalty=given(body.presence_penalty, 0.0),
        frequency_penalty=given(body.frequency_penalty, 0.0),
        logit_bias=body.logit_bias or {},
        seed=body.seed,
        stop=stop_strings(body.stop),
        logprobs=logprobs,
        ignore_eos=bool(body.ignore_eos),
        constraint=constraint,
    )


def stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    """One string or a list, as a tuple."""
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(not 0 < len(text) <= MAX_STOP_LENGTH for text in strings):
        raise FieldError(f"a stop string has 1 to {MAX_STOP_LENGTH} characters", param="stop")
    return strings


def keep_alive_seconds(value: float | str | None) -> float | None:
    """Seconds of a duration such as 300, "5m" or -1."""
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise FieldError(
            f"keep_alive={value[:40]!r} is not a duration", param="keep_alive", hint="e.g. 300, '5m' or -1"
        )
    return float(match[1]) * _UNITS[match[2]]


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
            ContentLogprob(
                token.text,
                token.logprob,
                list(token.text.encode()),
                [TopLogprob(text, value, list(text.encode())) for _, text, value in token.top],
            )
            for token in logprobs
        ]
    )


def new_id(prefix: str) -> str:
    """An id no other answer has."""
    return f"{prefix}-{random.getrandbits(96):024x}"

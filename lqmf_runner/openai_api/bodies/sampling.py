"""A request's sampling settings, stop strings and durations."""

from __future__ import annotations

import re

from ...errors import FieldError
from ...types import Constraint, SamplingParams
from ..schemas import Sampled
from .body import NO_LIMIT

OPENAI_DEFAULTS = SamplingParams(max_tokens=None)
"""What a field that is left out or null means in OpenAI's API."""
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|\Z)")
_DURATION = re.compile(rf"(-?)((?:{_AMOUNT.pattern})+)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
MAX_STOP_LENGTH = 1000


def sampling_params(
    body: Sampled,
    defaults: SamplingParams,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    constraint: Constraint | None,
) -> SamplingParams:
    """The engine's settings. Fields that the body leaves out, or that are null, are those of `defaults`."""

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=given(body.temperature, defaults.temperature),
        top_k=defaults.top_k if body.top_k is None else max(body.top_k, 0),
        top_p=given(body.top_p, defaults.top_p),
        min_p=given(body.min_p, defaults.min_p),
        repetition_penalty=given(body.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=given(body.presence_penalty, defaults.presence_penalty),
        frequency_penalty=given(body.frequency_penalty, defaults.frequency_penalty),
        logit_bias=defaults.logit_bias if body.logit_bias is None else body.logit_bias,
        seed=defaults.seed if body.seed is None else body.seed,
        stop=defaults.stop if body.stop is None else stop_strings(body.stop),
        logprobs=logprobs,
        ignore_eos=defaults.ignore_eos if body.ignore_eos is None else body.ignore_eos,
        constraint=constraint,
    )
    if body.min_tokens:
        _check_least(body.min_tokens, params)
    return params


def _check_least(min_tokens: int, params: SamplingParams) -> None:
    """Accept `min_tokens` where benchmarks ask for a fixed length; it is not supported otherwise."""
    if not params.ignore_eos or params.stop or params.constraint:
        raise FieldError(
            "min_tokens is only supported with ignore_eos=true, without stop and constraints",
            param="min_tokens",
            hint="with ignore_eos=true an answer has max_tokens tokens",
        )
    if params.max_tokens is not None and min_tokens > params.max_tokens:
        raise FieldError("min_tokens is larger than max_tokens", param="min_tokens")


def most_tokens(param: str, given: int | None, default: int | None) -> int | None:
    """Maximum number of tokens: the default if nothing is given, None for as many as fit.

    Raises:
        FieldError: it is 0.
    """
    if given == 0:
        raise FieldError(f"{param}=0 asks for no answer", param=param, hint=NO_LIMIT)
    return default if given is None else None if given == -1 else given


def stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    """One string or a list, as a tuple. Empty strings stop nothing."""
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(len(text) > MAX_STOP_LENGTH for text in strings):
        raise FieldError(f"a stop string has at most {MAX_STOP_LENGTH} characters", param="stop")
    return tuple(filter(None, strings))


def keep_alive_seconds(value: float | str | None) -> float | None:
    """Seconds of a duration such as 300, "5m", "1h30m" or -1."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise FieldError(
            f"keep_alive={value[:40]!r} is not a duration", param="keep_alive", hint="e.g. 300, '5m' or -1"
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _AMOUNT.findall(match[2]))
    return -seconds if match[1] else seconds

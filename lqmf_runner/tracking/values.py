"""A run in MLflow's terms: flat params and metrics within its limits, and no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..experiments.results import ModelResult
from ..reports.figures import load_key

REDACTED = "***"
PARAM_LENGTH, TAG_LENGTH, NAME_LENGTH = 6000, 5000, 250
_SECRET_KEY = re.compile(r"(key|token|secret|password|passwd|credential)s?$", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s?#]*@")
_URL_SECRET = re.compile(r"([?&][^=&\s]*(?:key|token|secret|password)=)[^&\s]+", re.IGNORECASE)


def redact(value: Any, key: str = "") -> Any:
    """A copy in which secrets are `***`: strings under keys like `api_key`, and logins within URLs."""
    if isinstance(value, Mapping):
        return {name: redact(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, key) for inner in value]
    if isinstance(value, str) and value:
        return REDACTED if _SECRET_KEY.search(key) else redact_text(value)
    return value


def redact_text(text: str) -> str:
    """The text without logins and tokens in its URLs."""
    return _URL_SECRET.sub(rf"\1{REDACTED}", _URL_LOGIN.sub(f"{REDACTED}@", text))


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings under dotted names; lists are leaves."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def run_params(config: Mapping[str, Any]) -> dict[str, str]:
    """The resolved configuration as MLflow params: flat, secrets redacted, within MLflow's limits."""
    params = {}
    for name, value in flatten(redact(config)):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        params[re.sub(r"[^\w\-. :/]", "_", name)[:NAME_LENGTH]] = shorten(text, PARAM_LENGTH)
    return params


def model_metrics(model: ModelResult) -> dict[str, float]:
    """All numbers of a model under their MLflow names, e.g. `c8/ttft_s.p50`, `quality/heuristic.score`."""
    groups = ("memory", "ramp", "quality")
    plain: dict[str, Any] = msgspec.to_builtins(model)
    found: dict[str, float] = {}

    def add(values: Mapping[str, Any], prefix: str = "") -> None:
        for name, value in flatten(values):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[prefix + name] = float(value)

    add({name: value for name, value in plain.items() if name not in ("loads", *groups)})
    for group in groups:
        add(plain[group] or {}, f"{group}/")
    for load, values in zip(model.loads, plain["loads"], strict=True):
        values.pop("shape")
        add(values, f"{load_key(load.shape)}/")
    return found


def shorten(text: str, length: int) -> str:
    """The text, cut to at most `length` characters with a mark that says so."""
    return text if len(text) <= length else text[: length - 1] + "…"

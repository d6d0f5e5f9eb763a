"""Secrets of a configuration, and how they are kept out of what a run leaves and sends to MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REDACTED = "***"
SECRET_KEY = re.compile(r"(key|token|secret|password|passwd|credential)s?$", re.IGNORECASE)
# The second form is for passwords with a slash, which SQLAlchemy takes.
_URL_LOGIN = re.compile(r"""(?<=://)(?:[^/\s?#]+|[^/\s?#:]*:[^\s"'@]+)(?=@)""")
_URL_SECRET = re.compile(r"(?<=[?&])([^=&\s]*(?:key|token|secret|password)=)[^&\s]+", re.IGNORECASE)


def secrets_in(value: Any) -> list[str]:
    """The secrets of a plain configuration: strings under keys like `api_key`, and logins and tokens within URLs.

    The longest come first, so that one which holds another is taken out whole.
    """
    return sorted(set(_find(value, "")), key=len, reverse=True)


def redact(value: Any, secrets: Sequence[str] = (), *, key: str = "") -> Any:
    """A copy in which secrets are `***`.

    These are the `secrets` wherever they occur (in URLs also where the escapes of a grammar make them look different),
    strings under keys like `api_key`, and logins and tokens within URLs.
    """
    if isinstance(value, Mapping):
        return {name: redact(inner, secrets, key=str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, secrets, key=key) for inner in value]
    if isinstance(value, str) and value:
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return REDACTED if SECRET_KEY.search(key) else redact_text(value)
    return value


def redact_text(text: str) -> str:
    """The text without logins and tokens in its URLs."""
    return _URL_SECRET.sub(rf"\1{REDACTED}", _URL_LOGIN.sub(REDACTED, text))


def redact_files(run_dir: Path, sweep_dir: Path | None, secrets: Sequence[str]) -> None:
    """Take secrets out of what Hydra has saved: the folder is sent to MLflow as it is."""
    saved = [*(run_dir / ".hydra").glob("*.yaml"), *([sweep_dir / "multirun.yaml"] if sweep_dir else [])]
    for path in saved:
        if path.is_file():
            saved_text = path.read_text("utf-8")
            clean = redact(saved_text, secrets)
            if clean != saved_text:
                path.write_text(clean, "utf-8")


def _find(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _find(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _find(inner, key)
    elif isinstance(value, str) and value:
        if SECRET_KEY.search(key):
            yield value
        yield from _URL_LOGIN.findall(value)
        # With its name: a short value by itself may stand anywhere.
        yield from (found[0] for found in _URL_SECRET.finditer(value))

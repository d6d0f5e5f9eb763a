"""Models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from ..config import BackendConfig
from ..config.checks import positive
from ..config.texts import FilePath, Name
from ..errors import UserInputError
from ..redaction import redact_text
from ..types import ModelSpec
from .base import Format


@dataclass(frozen=True)
class EndpointBackend(BackendConfig):
    """The common settings of all kinds of endpoints.

    `certfile` is a PEM file with the certificate that the endpoint itself shows, which is then trusted for any host.
    """

    api_key_env: Name = "OPENAI_API_KEY"
    remote_model: Name | None = None
    timeout_s: float = 120.0
    certfile: FilePath | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("backend.timeout_s", self.timeout_s)
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env, re.ASCII):
            raise UserInputError(
                "backend.api_key_env is not the name of an environment variable",
                hint="put the key into a variable and name that, e.g. OPENAI_API_KEY",
            )


@dataclass(frozen=True)
class OpenAIBackend(EndpointBackend):
    """Any OpenAI-compatible endpoint."""

    format: str = "openai"
    base_url: Name = "http://127.0.0.1:8080/v1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_address("backend.base_url", self.base_url)


def check_address(key: str, url: str) -> None:
    """Refuse what is not the address of an endpoint."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise UserInputError(
            f"{key}={redact_text(url)} is not the address of an endpoint",
            hint="it looks like http://127.0.0.1:8080/v1",
        )


OPENAI = Format(
    name="openai",
    label="OpenAI endpoint",
    backend=OpenAIBackend,
    client="lqmf_runner.engine.remote:RemoteEngine",
    overhead_mb=0.0,
)


def endpoint(
    model: str, base_url: str, *, api_key_env: str, timeout_s: float, certfile: str | None = None
) -> ModelSpec:
    """A model of an endpoint that nobody has configured; see `OpenAIBackend` for the arguments."""
    backend = OpenAIBackend(
        base_url=base_url, api_key_env=api_key_env, remote_model=model, timeout_s=timeout_s, certfile=certfile
    )
    return ModelSpec(name=model, format=OPENAI.name, path="", options=asdict(backend))

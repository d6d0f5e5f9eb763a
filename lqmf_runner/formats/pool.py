"""One model behind several OpenAI-compatible endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.texts import Name
from ..errors import UserInputError
from .base import Format
from .openai import EndpointBackend, check_address


@dataclass(frozen=True)
class PoolBackend(EndpointBackend):
    """Endpoints that serve the same model. Requests are spread over them.

    Attributes:
        base_urls: their addresses, each as `backend.base_url` of one endpoint.
    """

    format: str = "pool"
    base_urls: list[Name] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        for url in self.base_urls:
            check_address("backend.base_urls", url)
        if len(set(self.base_urls)) < len(self.base_urls):
            raise UserInputError("backend.base_urls names an endpoint twice", hint="give each once")


POOL = Format(
    name="pool",
    label="pool of OpenAI endpoints",
    backend=PoolBackend,
    client="lqmf_runner.engine.replicas.endpoints:EndpointPool",
    overhead_mb=0.0,
)

"""`EndpointPool`: several endpoints that serve the same model, as one engine."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...errors import EndpointSetupError, UserInputError
from ...redaction import redact_text
from ...types import ModelSpec
from ..remote import RemoteEngine
from .replica_set import ReplicaSet
from .sources import Progress


class EndpointPool(ReplicaSet):
    """A set of endpoints. Make it with `EndpointPool.connect`."""

    @classmethod
    async def connect(cls, spec: ModelSpec) -> EndpointPool:
        """Connect to all `base_urls`. Endpoints that do not answer are asked again, as long as one does.

        Raises:
            UserInputError: none is named.
            EndpointSetupError: they serve different models, or one of them does not take our key.
            RemoteEngineError: none answers.
        """
        urls = spec.options["base_urls"]
        if not urls:
            raise UserInputError(
                f"'{spec.name}' has no endpoints",
                hint="name them: backend.base_urls=[http://127.0.0.1:8001/v1,http://127.0.0.1:8002/v1]",
            )
        specs = [msgspec.structs.replace(spec, options={**spec.options, "base_url": url}) for url in urls]
        return await cls.start(spec.name, _Endpoints(specs), len(specs))


class _Endpoints:
    """The source of a pool's engines; see `Source`."""

    all_needed = False

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self._specs = specs
        self._served: dict[int, str] = {}

    @property
    def most(self) -> int | None:
        """As many as were named."""
        return len(self._specs)

    async def start(self, number: int, on_progress: Progress) -> RemoteEngine:
        """See `Source`.

        Raises:
            EndpointSetupError: it serves another model than the others.
        """
        engine = await RemoteEngine.connect(self._specs[number])
        self._served[number] = engine.served
        if len(set(self._served.values())) > 1:
            await engine.close()
            raise self._unlike()
        return engine

    def _unlike(self) -> EndpointSetupError:
        found = ", ".join(
            f"'{model}' at {redact_text(self._specs[number].options['base_url'])}"
            for number, model in sorted(self._served.items())
        )
        return EndpointSetupError(
            f"the endpoints serve different models: {found}",
            hint="name one that all of them have with backend.remote_model",
        )

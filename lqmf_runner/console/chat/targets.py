"""Where a chat's models come from: this machine, or a running server."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

import httpx
import msgspec

from ...engine import EngineClient, load_engine
from ...errors import RemoteEngineError, UserInputError
from ...formats.openai import endpoint
from ...models import discover, locate
from ...runs.context import RunContext
from ...server.process.registry import READY, running_servers
from ...server.process.status import examine
from ...tls import trust
from ...types import ModelSpec

KEY_VARIABLE = "LQMF_API_KEY"
_TIMEOUT_S = 600.0  # a server may load a large model first


def serving(model: str) -> str | None:
    """The address of a server of this machine that has the model loaded."""
    try:
        there = [server for server in running_servers() if server.state == READY]
    except (OSError, UserInputError):  # the folder of records is not ours
        return None
    return next((server.url for server in there if model in examine(server)["models"]), None)


class Target(ABC):
    """Loads models by name. `where` names it for people."""

    where: str

    @abstractmethod
    async def load(self, name: str | None = None) -> EngineClient:
        """The model with this name; without one, the model that the chat was started with.

        Raises:
            LqmfError: there is no such model, or it cannot be loaded.
        """

    @abstractmethod
    async def names(self) -> list[str]:
        """The models to choose from."""


class LocalModels(Target):
    """Models on this machine, and endpoints that have a configuration."""

    where = "this machine"

    def __init__(self, context: RunContext) -> None:
        self._context = context

    async def load(self, name: str | None = None) -> EngineClient:
        config = self._context.config if name is None else self._context.compose(name)
        spec = locate(config.model, config.backend, config.models_dir, placement=config.placed)
        return await load_engine(spec)

    async def names(self) -> list[str]:
        found = [m.name for m in discover(self._context.config.models_dir) if not m.problem]
        return sorted({*found, *self._context.model_names} - {"local"})


class ServerModels(Target):
    """Models that a running server has or can load. The key is read from `LQMF_API_KEY`."""

    def __init__(self, url: str, model: str) -> None:
        self.where = url
        self._url = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._certfile = next((s.certfile for s in running_servers() if s.url == self._url), "")

    async def load(self, name: str | None = None) -> EngineClient:
        model = name or self._model
        engine = await load_engine(self._spec(model))
        # Our server says in the answer to /tokenize how long the context is; other servers may not have the route.
        engine.info = msgspec.structs.replace(engine.info, n_ctx=await self._context_length(model))
        return engine

    async def names(self) -> list[str]:
        async with self._client() as client:
            try:
                answer = await client.get("/v1/models")
                return [str(model["id"]) for model in answer.json()["data"]]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise RemoteEngineError(
                    f"{self.where} does not list its models: {type(error).__name__}",
                    hint="is it still running?",
                ) from error

    def _spec(self, model: str) -> ModelSpec:
        return endpoint(
            model,
            f"{self._url}/v1",
            api_key_env=KEY_VARIABLE,
            timeout_s=_TIMEOUT_S,
            certfile=self._certfile or None,
        )

    def _client(self) -> httpx.AsyncClient:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            base_url=self._url, headers=headers, timeout=_TIMEOUT_S, verify=trust(self._certfile)
        )

    async def _context_length(self, model: str) -> int:
        """Tokens of the context; 0 where the server does not say. The server loads the model for this."""
        async with self._client() as client:
            try:
                answer = await client.post("/tokenize", json={"model": model, "prompt": "", "content": ""})
                return int(answer.json()["max_model_len"])
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                return 0

"""The model that is asked if the grammar does not understand: that of `console.model`, or a served one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from ..config.texts import quoted
from ..engine import EngineClient, load_engine
from ..errors import LqmfError
from ..models import locate
from ..runs.context import RunContext
from .server_link import ServerLink, find_server, server_key
from .understanding.asked import ask_model
from .understanding.steps import UNKNOWN, Step
from .understanding.understand import Understanding

_KEY = "LQMF_CONSOLE_KEY"
"""Where the client of the running server reads its key. LQMF_API_KEY is the user's, whose shell may not have it."""


class Understander:
    """All three layers. The model is loaded at its first use and stays until `close`.

    Args:
        names: gives the models that there are now; a server that starts, or a run, brings more.

    Attributes:
        problem: why no model could be asked the last time; empty if one was, or none is wanted.
    """

    def __init__(
        self, context: RunContext, understanding: Understanding, names: Callable[[], Sequence[str]]
    ) -> None:
        self._context = context
        self._understanding = understanding
        self._names = names
        self._runner = asyncio.Runner()
        self._engine: EngineClient | None = None
        self.problem = ""

    def steps(self, sentence: str, models: Sequence[str] = (), *, report: bool = False) -> list[Step]:
        """What a sentence asks for; see `Understanding.steps`."""
        self._understanding.know(self._names())
        found = self._understanding.steps(sentence, models, report=report)
        settings = self._context.config.console
        self.problem = ""
        if found[0].intent != UNKNOWN or not settings.ask_model or len(sentence) > 1000:
            return found
        try:
            answer = self._ask(sentence)
        except LqmfError as error:
            self.problem = f"No model could be asked what it means: {error.message}"
            return found
        return found if answer is None else [answer]

    def close(self) -> None:
        """Unload the model."""
        if self._engine is not None:
            self._runner.run(self._engine.close())
        self._runner.close()

    def _ask(self, sentence: str) -> Step | None:
        name = self._context.config.console.model
        if name is not None:
            if self._engine is None:
                self._engine = self._load(name)
            return self._runner.run(ask_model(self._engine, sentence, self._understanding.names))
        served = self._connect()
        if served is None:
            return None
        try:
            return self._runner.run(ask_model(served, sentence, self._understanding.names))
        finally:
            self._runner.run(served.close())

    def _load(self, name: str, *overrides: str) -> EngineClient:
        config = self._context.compose(name, *overrides)
        spec = locate(config.model, config.backend, config.models_dir, placement=config.placed)
        return self._runner.run(load_engine(spec))

    def _connect(self) -> EngineClient | None:
        """A model that a running server has loaded; None if there is none."""
        settings = self._context.config
        server = find_server(settings.server.port)
        loaded = ServerLink(server, settings.console.timeout_s).loaded() if server else []
        if server is None or not loaded:
            return None
        if key := server_key():
            os.environ[_KEY] = key
        return self._load(
            "openai",
            f"backend.base_url={quoted(f'{server.url}/v1')}",
            f"backend.api_key_env={_KEY}",
            f"backend.remote_model={quoted(loaded[0])}",
        )

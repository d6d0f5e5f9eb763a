"""`ProgramEngine`: a model that another program serves, which runs as long as the engine."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec

from ...errors import EngineLostError, LqmfError
from ...formats import get_format
from ...models import inspect_model
from ...models.files.chat_template import chat_template
from ...redaction import redact_text
from ...types import GenerationRequest, MemoryUse, ModelInfo, ModelSpec
from ..remote import RemoteEngine
from ..thoughts import ThoughtReader, knows_thoughts, opens_thoughts, thought_reader
from .serving import LocalProgram, ServingProgram, not_installed

_POLL_S = 0.2


class ProgramEngine(RemoteEngine):
    """Starts the program of the spec's format, and talks to it as to an endpoint."""

    _program: ServingProgram
    _watch: asyncio.Task[None]
    _template = ""

    @classmethod
    async def connect(cls, spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> Self:
        """Start the program where the spec places it, and return when it answers.

        Args:
            on_progress: takes the share of the model's files that has been sent to its node, if they are sent.

        Raises:
            MissingDependencyError: it is not installed.
            EngineLostError: it ended before it answered, or does not answer within `load_timeout_s`.
            RemoteEngineError: it answers with something else than OpenAI's API.
            LqmfError: it cannot be placed.
        """
        began = time.perf_counter()
        key = f"lqmf-{secrets.token_hex(16)}"  # in YAML, digits alone would be a number
        template = await asyncio.to_thread(chat_template, Path(spec.path))
        program = await _start(spec, key, on_progress)
        try:
            await _answers(spec, program, key)
            options = {**spec.options, "base_url": f"{program.url}/v1", "remote_model": spec.name}
            engine = await cls.open(msgspec.structs.replace(spec, options=options), key, trust_env=False)
        except BaseException:
            await program.end()
            raise
        engine._program = program
        engine.place = program.node
        engine._watch = asyncio.create_task(engine._notice_loss())
        engine._template = template
        engine.info = _described(engine.info, spec, template, time.perf_counter() - began)
        return engine

    async def memory(self) -> MemoryUse:
        return await self._program.memory()

    async def close(self) -> None:
        self._watch.cancel()
        await super().close()
        await self._program.end()

    def _thought_reader(self, request: GenerationRequest) -> ThoughtReader | None:
        opened = opens_thoughts(self._template, request.template_options)
        return thought_reader(request, thinks=self.info.thinks, opened=opened)

    async def _notice_loss(self) -> None:
        await self._program.wait()
        self.report_loss(await _ended(self.info.name, self._program, "its requests failed"))


async def _start(spec: ModelSpec, key: str, on_progress: Callable[[float], None] | None) -> ServingProgram:
    if spec.placement.cluster is not None:
        from .placed import PlacedProgram

        return await PlacedProgram.start(spec, key, on_progress)
    return LocalProgram(spec, key)


async def _answers(spec: ModelSpec, program: ServingProgram, key: str) -> None:
    """Wait until it lists its models."""
    seconds = spec.options["load_timeout_s"]
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with asyncio.timeout(seconds), httpx.AsyncClient(headers=headers, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{program.url}/v1/models", timeout=5)).is_success:
                        return
                if await program.exit_code() is not None:
                    words = await program.last_words()
                    if "No module named" in words:
                        raise not_installed(get_format(spec.format), words, program.node)
                    raise await _ended(spec.name, program, "it did not load")
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise EngineLostError(
            f"'{spec.name}' did not load within {seconds:g} s", hint="raise backend.load_timeout_s"
        ) from None


async def _ended(name: str, program: ServingProgram, what: str) -> EngineLostError:
    try:
        code, said = await program.exit_code(), redact_text(await program.last_words())
    except EngineLostError as error:
        return EngineLostError(f"{error.message}, {what}", hint=error.hint)
    where = f" on node {program.node}" if program.node else ""
    return EngineLostError(
        f"the program of '{name}'{where} ended with exit code {code}, {what}{f': {said}' if said else ''}",
        hint="LQMF_DEBUG=1 shows its own output",
    )


def _described(info: ModelInfo, spec: ModelSpec, template: str, load_time_s: float) -> ModelInfo:
    """What the checkpoint's files tell, where they are here and of a kind that is known."""
    known: Mapping[str, Any] = {}
    with contextlib.suppress(LqmfError, OSError):
        found = inspect_model(spec.path)
        known = {
            name: getattr(found, name)
            for name in (
                "method",
                "architecture",
                "bits",
                "bits_per_weight",
                "parameters",
                "size_mb",
                "weight_bytes",
            )
        }
    thinks = knows_thoughts(template)
    return msgspec.structs.replace(
        info, **known, thinks=thinks, version=spec.version, load_time_s=load_time_s
    )

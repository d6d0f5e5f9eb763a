"""`PlacedProgram`: a program on a node that serves a model, behind the actor that has started it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from ...errors import EngineLostError, UserInputError
from ...models.version import content_version
from ...types import Cluster, MemoryUse, ModelSpec
from ..placement.cluster import join
from ..placement.delivery import deliver
from ..placement.placed_host import PlacedHost
from .host import ProgramHost, ProgramStart
from .serving import ServingProgram

_ANSWER_S, _END_S = 5.0, 30.0  # to end, its keeper gives the program 10 s and then kills it
_LOOK_S = 1.0


class PlacedProgram(ServingProgram):
    """It listens at its node's address in the cluster; its API wants a key. Make it with `PlacedProgram.start`."""

    def __init__(self, host: PlacedHost) -> None:
        self.node = host.node
        self._host = host
        self._memory = MemoryUse()

    @classmethod
    async def start(cls, spec: ModelSpec, key: str, on_progress: Callable[[float], None] | None) -> Self:
        """Choose a node, have the model's files there if they are files, and start the program.

        Raises:
            DoesNotFitError: no node has room for it.
            UserInputError: `ray.tls` is set, which its connections would not keep.
            LqmfError: whatever else failed; nothing is left running.
        """
        settings = spec.placement.cluster or Cluster()
        if settings.tls:
            raise UserInputError(
                f"ray.tls does not cover '{spec.name}': a {spec.format} program answers in plain HTTP on its node",
                hint="leave out ray.tls and keep the cluster in a private network, or run the program yourself "
                "behind TLS and use model=openai",
            )
        cluster = await join(settings)
        reservation = await cluster.reserve(spec)
        needs = reservation.needs
        program = cls(PlacedHost(cluster, settings, spec.name, reservation))
        try:
            await program._host.open(ProgramHost)
            spec = await asyncio.to_thread(_versioned, spec)
            path = await deliver(program._host, spec, on_progress or (lambda share: None))
            order = ProgramStart(
                node=program.node,
                spec=msgspec.structs.replace(spec, path=path),
                key=key,
                n_threads=max(1, int(needs.cpus)),
                gpus=needs.gpus > 0,
            )
            program.url = await program._host.ask("start", order, seconds=settings.start_timeout_s)
        except BaseException:
            await program.end()
            raise
        return program

    async def exit_code(self) -> int | None:
        """See `ServingProgram`."""
        code: int | None = await self._host.ask("exit_code", seconds=_ANSWER_S)
        return code

    async def last_words(self) -> str:
        """See `ServingProgram`."""
        with contextlib.suppress(EngineLostError):
            return str(await self._host.ask("last_words", seconds=_ANSWER_S))
        return ""

    async def memory(self) -> MemoryUse:
        """See `ServingProgram`. The figures of the last time if the node does not answer now."""
        if not self._host.is_open:
            return MemoryUse()
        with contextlib.suppress(EngineLostError):
            self._memory = await self._host.ask("memory", seconds=_ANSWER_S)
            self._host.measured(self._memory.rss_mb)
        return self._memory

    async def wait(self) -> None:
        """See `ServingProgram`. A node that does not answer for 5 s is lost."""
        with contextlib.suppress(EngineLostError):
            while await self.exit_code() is None:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)

    async def end(self) -> None:
        """See `ServingProgram`. A node that does not answer is given up."""
        await self._host.close("close", seconds=_END_S)


def _versioned(spec: ModelSpec) -> ModelSpec:
    """The specification with the version of its files, by which a node recognises them."""
    if spec.version or not Path(spec.path).exists():
        return spec
    return msgspec.structs.replace(spec, version=content_version(spec.path))

"""`ProgramHost`: the actor on a node that starts a program which serves a model, measures it and ends it."""

from __future__ import annotations

import asyncio

import msgspec

from ...types import MemoryUse, ModelSpec
from ..placement.host import Host
from .process import KeptProgram
from .serving import start_program


class ProgramStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a host needs to start a program. `key` is what the program's clients have to send."""

    node: str
    spec: ModelSpec
    key: str
    n_threads: int
    gpus: bool


class ProgramHost(Host):
    """The program ends with this process: its keeper watches a pipe of it."""

    def __init__(self) -> None:
        super().__init__()
        self._program: KeptProgram | None = None

    async def start(self, start: ProgramStart) -> str:
        """Start the program at this node's address in the cluster. Returns where it answers, as a URL.

        Raises:
            MissingDependencyError: it is not installed on the node.
        """
        import ray.util

        environment = {"OMP_NUM_THREADS": str(start.n_threads)}  # Ray has set it for its own process
        if not start.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self._program, url = start_program(
            start.spec, start.key, ray.util.get_node_ip_address(), node=start.node, **environment
        )
        return url

    async def exit_code(self) -> int | None:
        """Of the program; None while it runs."""
        return None if self._program is None else self._program.exit_code()

    async def last_words(self) -> str:
        """See `ServingProgram`."""
        return "" if self._program is None else self._program.last_words()

    async def memory(self) -> MemoryUse:
        """See `ServingProgram`."""
        return MemoryUse() if self._program is None else self._program.memory()

    async def close(self) -> None:
        """End the program."""
        if self._program is not None:
            await asyncio.to_thread(self._program.end)

"""`ServingProgram`: a program that serves one model, here or on a node, and how it is started."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from ...errors import MissingDependencyError
from ...formats import Format, get_format
from ...types import MemoryUse, ModelSpec
from .process import KeptProgram, free_port


class ServingProgram(ABC):
    """A program that was started for a model, and ends with `end`, or with this process.

    Attributes:
        url: where it answers, without a path.
        node: the name of its machine; empty for this one.
    """

    url: str
    node: str = ""

    @abstractmethod
    async def exit_code(self) -> int | None:
        """Its exit code; None while it runs. Raises EngineLostError if its machine is lost."""

    @abstractmethod
    async def last_words(self) -> str:
        """The last line of its output that says something; empty if there is none."""

    @abstractmethod
    async def memory(self) -> MemoryUse:
        """What it and all that it has started use now and used at most; zeros once it has ended."""

    @abstractmethod
    async def wait(self) -> None:
        """Return when it has ended, or is lost."""

    @abstractmethod
    async def end(self) -> None:
        """End it and all that it has started. May be called twice."""


class LocalProgram(ServingProgram):
    """A program on this machine, which listens on loopback only."""

    def __init__(self, spec: ModelSpec, key: str) -> None:
        """Raises: MissingDependencyError: it is not installed."""
        self._program, self.url = start_program(spec, key, "127.0.0.1")

    async def exit_code(self) -> int | None:
        return self._program.exit_code()

    async def last_words(self) -> str:
        return self._program.last_words()

    async def memory(self) -> MemoryUse:
        return self._program.memory()

    async def wait(self) -> None:
        await asyncio.to_thread(self._program.wait)

    async def end(self) -> None:
        await asyncio.to_thread(self._program.end)


def start_program(
    spec: ModelSpec, key: str, host: str, *, node: str = "", **environment: str
) -> tuple[KeptProgram, str]:
    """Start the program of the spec's format on this machine. Returns it and its address as a URL.

    Args:
        key: what its clients have to send.
        host: the address at which it listens.
        node: the name of this machine, for errors.
        environment: variables that it gets beside those of this process.

    Raises:
        MissingDependencyError: it is not installed.
    """
    format, port = get_format(spec.format), free_port(host)
    assert format.program is not None  # the formats that are started have one
    program, key_file = format.program, Path(tempfile.gettempdir()) / f"lqmf-{secrets.token_hex(8)}.yaml"
    command = program.arguments(
        spec.options, model=spec.path, name=spec.name, host=host, port=port, key_file=str(key_file)
    )
    if shutil.which(command[0]) is None:
        raise not_installed(format, f"there is no program '{command[0]}'", node)
    if program.key_variable:
        environment[program.key_variable] = key
    files = {key_file: program.key_flags(key)} if program.key_file else {}
    return KeptProgram(command, environment, files), f"http://{f'[{host}]' if ':' in host else host}:{port}"


def not_installed(format: Format, why: str, node: str = "") -> MissingDependencyError:
    """The error of a program that is not there; `node` names its machine, if that is another one."""
    install = format.program.install if format.program else ""
    return MissingDependencyError(
        f"{format.label} is not installed{f' on node {node}' if node else ''}: {why}",
        hint=f"{install}, best in an environment of its own; then name it in backend.command",
    )

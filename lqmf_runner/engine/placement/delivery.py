"""Has a model's files on a node before its worker starts: those that the node has, or copies that are sent to it.

They go through Ray, in pieces of a few MB, each sent when the last one was written. A node gets them once, however many
workers it runs, and keeps them while its cache has room (`cache.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from ...errors import ModelNotFoundError, ModelUnusableError
from ...types import Cluster, ModelSpec
from .host import Wanted
from .inbox import Arrived, bytes_left
from .placed_host import PlacedHost
from .shipment import Shipment, shipment_of

log = logging.getLogger(__name__)

_PIECE = 1 << 21
_ANSWER_S = 60.0  # for one piece, or to look at what is there
_POLL_S = 0.2
_HASHED_A_S = 50e6  # bytes, at least: what an earlier try has left is read for its digest


async def deliver(host: PlacedHost, spec: ModelSpec, on_progress: Callable[[float], None]) -> str:
    """The path of the model's files on the host's node. They are sent there if necessary.

    Args:
        on_progress: takes the share that has been sent.

    Raises:
        ModelNotFoundError, ModelUnusableError: `placement.files=path`, and the node has none, or others.
        DoesNotFitError: its disk is full.
        EngineLostError: it does not answer.
    """
    files = spec.placement.files
    if (path := _full(spec.path)) is None:
        return spec.path  # a name on the hub, which a program fetches there
    if files != "send":
        wanted = Wanted(name=spec.name, node=host.node, path=path, shown=_shown(path), version=spec.version)
        try:
            await host.ask("check_files", wanted, seconds=_ANSWER_S)
            return path
        except (ModelNotFoundError, ModelUnusableError):
            if files == "path":
                raise
    try:
        return await _Delivery(host, spec, on_progress).run()
    except OSError as error:
        raise ModelUnusableError(
            f"the files of '{spec.name}' cannot be read here: {error.strerror or error}",
            hint="load it again when nothing writes them",
        ) from error


class _Delivery:
    """The transfer of one model's files to one node."""

    def __init__(self, host: PlacedHost, spec: ModelSpec, on_progress: Callable[[float], None]) -> None:
        self._host = host
        self._spec = spec
        self._on_progress = on_progress
        self._sent = 0

    async def run(self) -> str:
        """Returns the model's path on the node."""
        shipment = await asyncio.to_thread(shipment_of, self._spec.name, self._spec.path)
        arrived = await self._arrived(shipment)
        if arrived.path:
            return arrived.path
        left = bytes_left(shipment, arrived.missing)
        self._sent = shipment.size - left
        log.info("sending %s to node %s: %.0f MB", shipment.model, self._host.node, left / 1e6)
        for index, there in arrived.missing:
            await self._send(shipment, index, there)
        path: str = await self._host.ask("close_inbox", seconds=_ANSWER_S)
        return path

    async def _arrived(self, shipment: Shipment) -> Arrived:
        """The files on the node, after any other process has finished sending the same ones."""
        cache_mb = (self._spec.placement.cluster or Cluster()).cache_mb
        limit, seconds = cache_mb * 1e6, _ANSWER_S + shipment.size / _HASHED_A_S
        while True:
            arrived: Arrived | None = await self._host.ask(
                "open_inbox", shipment, self._host.node, limit, seconds=seconds
            )
            if arrived is not None:
                return arrived
            await asyncio.sleep(_POLL_S)

    async def _send(self, shipment: Shipment, index: int, there: int) -> None:
        """Send a file from the byte `there` on. All of it is read, for its digest."""
        place, file = Path(self._spec.path), shipment.files[index]
        digest = hashlib.sha256()
        with (place.with_name(file.name) if shipment.main else place / file.name).open("rb") as stream:
            async for piece in _pieces(stream, digest):
                skipped = max(0, there - (stream.tell() - len(piece)))
                if rest := piece[skipped:]:
                    await self._host.ask("write_file", index, rest, seconds=_ANSWER_S)
                    self._sent += len(rest)
                    self._on_progress(self._sent / max(shipment.size, 1))
        await self._host.ask("finish_file", index, digest.hexdigest(), seconds=_ANSWER_S)


async def _pieces(stream: BinaryIO, digest: hashlib._Hash) -> AsyncIterator[bytes]:
    def read() -> bytes:
        data = stream.read(_PIECE)
        digest.update(data)
        return data

    while piece := await asyncio.to_thread(read):
        yield piece


def _full(path: str) -> str | None:
    """The path as it counts on another machine; None if it is none."""
    place = Path(path)
    return str(place.absolute()) if place.is_absolute() or place.exists() else None


def _shown(path: str) -> str:
    """A path as an error may name it: relative to the current folder where it lies in that, else its last part."""
    place = Path(path)
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else place.name

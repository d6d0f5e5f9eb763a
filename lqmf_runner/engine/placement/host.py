"""`Host`: the actor of this program on a node. `WorkerHost` starts a worker, measures it and ends it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import msgspec

from ... import __version__
from ...errors import EngineLostError, LqmfError, ModelNotFoundError, ModelUnusableError
from ...models.version import content_version
from ...types import MemoryUse
from ..process import LocalProcess
from .inbox import Arrived, Inbox
from .shipment import Shipment

_CONNECT_TIMEOUT_S = 10.0
_LINGER_S = 30.0
_BUFFER = 1 << 16


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A model's files as they should be on a node.

    Attributes:
        path, version: where they are, and of which content; any content if that is empty.
        shown: the path as an error may name it.
    """

    name: str
    node: str
    path: str
    shown: str
    version: str


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a host needs to start a worker.

    Attributes:
        address: where the front listens.
        token: the first bytes that are sent there.
        certificate: the only one that the front may show, in PEM; empty for a connection that is not encrypted.
    """

    node: str
    address: tuple[str, int]
    token: bytes
    certificate: str
    n_threads: int
    gpus: bool


class Host:
    """An actor on a node. It runs in its own process, which ends together with what it has started.

    Its methods raise `LqmfError`s, which `PlacedHost` raises again in the front.
    """

    def __init__(self) -> None:
        self._inbox: Inbox | None = None

    async def program_version(self) -> str:
        """The version of this program on the node."""
        return __version__

    async def check_files(self, wanted: Wanted) -> None:
        """Whether the node has a model's files where the front has them.

        Raises:
            ModelNotFoundError: it does not have them.
            ModelUnusableError: it has others there.
        """
        await asyncio.to_thread(_check_files, wanted)

    async def open_inbox(self, shipment: Shipment, node: str, limit: float) -> Arrived | None:
        """See `Inbox.open`."""
        self._inbox = Inbox(shipment, node, limit)
        return await asyncio.to_thread(self._inbox.open)

    async def write_file(self, index: int, data: bytes) -> None:
        """See `Inbox.write`."""
        assert self._inbox is not None
        await asyncio.to_thread(self._inbox.write, index, data)

    async def finish_file(self, index: int, digest: str) -> None:
        """See `Inbox.finish`."""
        assert self._inbox is not None
        await asyncio.to_thread(self._inbox.finish, index, digest)

    async def close_inbox(self) -> str:
        """See `Inbox.close`."""
        assert self._inbox is not None
        return await asyncio.to_thread(self._inbox.close)


class WorkerHost(Host):
    """Starts a worker, measures it and ends it."""

    def __init__(self) -> None:
        super().__init__()
        self._process: LocalProcess | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def start(self, start: Start) -> int:
        """Connect to the front and start a worker with that connection. Returns its process id.

        Raises:
            EngineLostError: the front cannot be reached from the node.
        """
        sock = await self._connect(start)
        environment = {"OMP_NUM_THREADS": str(start.n_threads)}  # Ray has set it for its own process
        if not start.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with sock:
            self._process = LocalProcess(sock, start.n_threads, **environment)
        return self._process.pid

    async def exit_code(self) -> int:
        """Wait until the worker ends."""
        assert self._process is not None
        code = await self._process.wait()
        # For a front that cannot reach this node.
        asyncio.get_running_loop().call_later(_LINGER_S, os._exit, 0)
        return code

    async def memory(self) -> MemoryUse:
        """See `WorkerProcess`."""
        return MemoryUse() if self._process is None else await self._process.memory()

    async def close(self) -> None:
        """See `WorkerProcess`."""
        if self._process is not None:
            await self._process.close()

    async def _connect(self, start: Start) -> socket.socket:
        """The worker's end of a connection to the front."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if start.certificate:
                    return await self._connect_encrypted(start)
                return await asyncio.to_thread(_connect_plainly, start)
        except (OSError, TimeoutError) as error:
            raise EngineLostError(
                f"node {start.node} cannot connect to this process on port {start.address[1]}: "
                f"{error or 'no answer'}",
                hint="set ray.listen_host to an address that the nodes reach, and open ray.listen_port there",
            ) from None

    async def _connect_encrypted(self, start: Start) -> socket.socket:
        """A worker reads and writes its socket in several threads, which TLS does not allow: this process relays."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate itself is pinned
        context.load_verify_locations(cadata=start.certificate)
        reader, writer = await asyncio.open_connection(*start.address, ssl=context)
        _keep_alive(writer.get_extra_info("socket"))
        writer.write(start.token)
        ours, theirs = socket.socketpair()
        from_worker, to_worker = await asyncio.open_unix_connection(sock=ours)
        for source, sink in ((reader, to_worker), (from_worker, writer)):
            relay = asyncio.create_task(_relay(source, sink))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)
        return theirs


def _connect_plainly(start: Start) -> socket.socket:
    sock = socket.create_connection(start.address, _CONNECT_TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _keep_alive(sock)
    sock.sendall(start.token)
    sock.settimeout(None)
    return sock


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel close the connection within a minute if the front's machine is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("KEEPIDLE", 5), ("KEEPINTVL", 3), ("KEEPCNT", 3), ("USER_TIMEOUT", 60_000)):
        if number := getattr(socket, f"TCP_{option}", None):
            sock.setsockopt(socket.IPPROTO_TCP, number, value)


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Forward bytes until one side closes; then close the other."""
    try:
        while data := await source.read(_BUFFER):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


def _check_files(wanted: Wanted) -> None:
    if not Path(wanted.path).exists():
        raise ModelNotFoundError(
            f"node {wanted.node} does not have the files of '{wanted.name}' at {wanted.shown}",
            hint="put them there on every node, choose nodes by placement.labels, or leave out placement.files=path",
        )
    if not wanted.version:
        return
    try:
        found = content_version(wanted.path)
    except LqmfError as error:
        raise ModelUnusableError(f"on node {wanted.node}: {error.message}", hint=error.hint) from None
    if found != wanted.version:
        raise ModelUnusableError(
            f"node {wanted.node} has another '{wanted.name}' at {wanted.shown}: version {found}, not {wanted.version}",
            hint="copy the same files to every node, or leave out placement.files=path",
        )

"""`WorkerPort`: the one port of this process to which placed workers connect, each with a token of its own."""

from __future__ import annotations

import asyncio
import datetime
import hmac
import logging
import secrets
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from ...errors import UserInputError
from ..connection import Connection

log = logging.getLogger(__name__)

TOKEN_BYTES = 32
_GREETING_TIMEOUT_S, _ACCEPT_AGAIN_S, _BACKLOG = 10.0, 1.0, 128
MOST_GREETINGS = 256
"""Connections that have not shown a token. Workers show theirs at once, so that the oldest of more is a stranger's."""


class WorkerPort:
    """Accepts connections, and passes each to the `Connection` whose token it begins with. All others are closed.

    Attributes:
        address: where it listens.
        certificate: in PEM, by which workers know this process; empty where nothing is encrypted.
    """

    def __init__(self) -> None:
        self._expected: dict[bytes, tuple[Connection, asyncio.Future[None]]] = {}
        self._greetings: dict[_Greeting, None] = {}  # the oldest first
        self._listener: socket.socket
        self._again: asyncio.TimerHandle | None = None
        self._context: ssl.SSLContext | None = None
        self.address: tuple[str, int]
        self.certificate = ""

    @classmethod
    async def open(cls, host: str, port: int, *, tls: bool) -> WorkerPort:
        """Listen.

        Raises:
            UserInputError: the address is not one of this machine, or the port is taken.
        """
        opened = cls()
        if tls:
            opened._context, opened.certificate = _ephemeral_certificate()
        try:
            opened._listener = await _listen(host, port)
        except OSError as error:
            raise UserInputError(
                f"workers cannot be listened for on port {port}: {error.strerror or error}",
                hint="set ray.listen_port to a free port, and ray.listen_host to an address of this machine",
            ) from None
        opened.address = opened._listener.getsockname()[:2]
        opened._begin()
        return opened

    def _begin(self) -> None:
        """Not by a server of the loop: with TLS it shows a connection only after its handshake, so that nobody counts
        the strangers that never finish theirs.
        """
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # this process may have too many open files just now
            log.error("connections of workers cannot be accepted: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            self._again = loop.call_later(_ACCEPT_AGAIN_S, self._begin)
            return
        sock.setblocking(False)
        self._greetings[_Greeting(self, sock, self._context)] = None
        if len(self._greetings) > MOST_GREETINGS:
            next(iter(self._greetings)).end()

    @contextmanager
    def expect(self, connection: Connection) -> Iterator[tuple[bytes, asyncio.Future[None]]]:
        """The token with which the worker of `connection` must begin, and what is done when it has connected."""
        token = secrets.token_bytes(TOKEN_BYTES)
        connected = asyncio.get_running_loop().create_future()
        self._expected[token] = connection, connected
        try:
            yield token, connected
        finally:
            self._expected.pop(token, None)

    def admit(self, token: bytes, transport: asyncio.Transport) -> Connection | None:
        """The connection that the token belongs to, with its transport set; None if there is none. Once only."""
        known = next((other for other in self._expected if hmac.compare_digest(other, token)), None)
        if known is None:
            return None
        connection, connected = self._expected.pop(known)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if not connected.done():
            connected.set_result(None)
        return connection

    def leave(self, greeting: _Greeting) -> None:
        """It has shown a token, or is closed. May be called twice."""
        self._greetings.pop(greeting, None)

    def close(self) -> None:
        """Stop listening. Connections of workers stay open."""
        if self._again is not None:
            self._again.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for greeting in list(self._greetings):
            greeting.end()


class _Greeting(asyncio.Protocol):
    """A connection that has not shown a token yet: nothing else of it is read.

    Args:
        context: of TLS, whose handshake comes first; None: nothing is encrypted.
    """

    def __init__(self, port: WorkerPort, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timeout = asyncio.get_running_loop().call_later(_GREETING_TIMEOUT_S, self.end)
        self._beginning = asyncio.create_task(self._begin(sock, context))
        # The task may be cancelled before it gives the socket to a transport.
        self._beginning.add_done_callback(lambda task: sock.close() if task.cancelled() else None)

    async def _begin(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, sock, ssl=context)
        except OSError:  # the peer does not speak TLS, or has disconnected
            self.end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have another base

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < TOKEN_BYTES:
            return
        assert self._transport is not None
        self._timeout.cancel()
        self._port.leave(self)
        token, rest = bytes(self._received[:TOKEN_BYTES]), bytes(self._received[TOKEN_BYTES:])
        connection = self._port.admit(token, self._transport)
        if connection is None:
            self._transport.abort()
        elif rest:
            connection.data_received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        self._timeout.cancel()
        self._port.leave(self)

    def end(self) -> None:
        """Close it."""
        self._timeout.cancel()
        self._port.leave(self)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._beginning.cancel()


async def _listen(host: str, port: int) -> socket.socket:
    (family, *_, address), *_ = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )
    listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def _ephemeral_certificate() -> tuple[ssl.SSLContext, str]:
    """A self-signed certificate for this process's life, and the context that uses it. Workers trust it alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lqmf-runner")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:  # readable by this user only
        file.write(private + public)
        file.flush()
        context.load_cert_chain(file.name)
    return context, public.decode()

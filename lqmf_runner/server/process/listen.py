"""Where the server listens: its socket, its URL, and the check of its certificate."""

from __future__ import annotations

import errno
import socket
import ssl

from ...config import ServerConfig
from ...errors import UserInputError
from .registry import running_servers


def bind(config: ServerConfig) -> socket.socket:
    """The listening socket.

    Raises:
        UserInputError: the port is taken, or the host is not one of this machine's.
    """
    where = f"{config.host}:{config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserInputError(f"server.host={config.host} is not an address: {error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(config.port, where) from None
        if error.errno == errno.EACCES:
            raise UserInputError(f"port {config.port} is not allowed", hint="choose one above 1023") from None
        raise UserInputError(
            f"cannot listen on {where}: {error.strerror}", hint="check server.host"
        ) from None
    return sock


def _taken(port: int, where: str) -> UserInputError:
    ours = [record for record in running_servers() if record.port == port]
    if ours:
        return UserInputError(
            f"a server runs on port {port} already (process {ours[0].pid})",
            hint=f"end it with `lqmf stop {port}`, or choose another port with --port",
        )
    return UserInputError(
        f"port {port} is taken: something else listens on {where}",
        hint="stop it, or choose another with --port (0 takes any free one)",
    )


def url_of(sock: socket.socket, *, tls: bool = False) -> str:
    """The URL of the socket for clients on this machine."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{'https' if tls else 'http'}://{netloc}"


def check_tls(certfile: str | None, keyfile: str | None) -> None:
    """Raises UserInputError if the certificate cannot be used. Without a certificate there is no TLS."""
    if certfile is None:
        if keyfile is not None:
            raise UserInputError(
                "server.keyfile is given without server.certfile", hint="give both, or neither"
            )
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
    except (OSError, ssl.SSLError) as error:
        raise UserInputError(
            f"server.certfile={certfile} cannot be used: {error}",
            hint="a PEM file with the certificate; the key in it too, or in server.keyfile",
        ) from None

"""Joins a running Ray cluster, and explains a failure to do so."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import EngineLostError, UnavailableError, UserInputError
from ...types import Cluster

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_ANSWER_S = 5.0
# Ray derives this machine's address from the route to these.
_PUBLIC = (("8.8.8.8", 53), ("2001:4860:4860::8888", 53))
_KEPT_TOKEN = Path(
    "~/.ray/auth_token"
)  # a head that finds it asks for it, but a program does not send it by itself
_RAYS_LINE = re.compile(rb"\[\d{4}-[^\]]+\] \w+\.cc:\d+: (.*)")


def prepare_joining(settings: Cluster) -> None:
    """Refuse an address that nobody answers within seconds, where Ray would try for a minute."""
    assert settings.address is not None
    host, _, port = settings.address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S) as sock:
            encrypted = os.environ.get("RAY_USE_TLS") == "1"
            wrong = "" if encrypted or _speaks_grpc(sock) else "something else does"
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        raise UnavailableError(
            f"no Ray cluster answers at {settings.address}: {wrong}",
            hint="start its head with `ray start --head`, or leave out ray.address to start a cluster here",
        )
    if settings.token_file is not None:
        if not Path(settings.token_file).is_file():
            raise UserInputError(f"ray.token_file={settings.token_file} is no file")
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ["RAY_AUTH_TOKEN_PATH"] = settings.token_file
        os.environ["RAY_AUTH_MODE"] = "token"
    elif "RAY_AUTH_TOKEN" in os.environ or _KEPT_TOKEN.expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if is_loopback(settings.address):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # a second: it would retry for 20 otherwise


def own_address(address: str) -> str | None:
    """The address at which the cluster's nodes reach this machine, where Ray does not find it out; None where it does.

    Ray looks for the way to a public address. On a network that has none, it takes the head's address for its own.
    """
    if is_loopback(address):
        return LOOPBACK
    if any(map(_way_to, _PUBLIC)):
        return None
    host, _, port = address.rpartition(":")
    return _way_to((host.strip("[]"), int(port)))


def _way_to(target: tuple[str, int]) -> str | None:
    """The address of this machine on the route to another one; nothing is sent."""
    with suppress(OSError):
        family = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            return str(sock.getsockname()[0])
    return None


def _speaks_grpc(sock: socket.socket) -> bool:
    """Whether the other side begins as every HTTP/2 server does, with its settings."""
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # empty settings of ours
    header = sock.recv(9, socket.MSG_WAITALL)
    return len(header) == 9 and header[3] == 4


def is_loopback(address: str) -> bool:
    """Whether the address, "host:port", is one that only this machine reaches."""
    return address.rpartition(":")[0] in (LOOPBACK, "localhost", "[::1]")


@contextmanager
def rays_warnings_in_log() -> Iterator[None]:
    """Take what Ray's native code writes to this process's stderr to the log; it has no setting that keeps it off."""
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if found := _RAYS_LINE.match(line):
                    log.debug("%s", found[1].decode(errors="replace"))
                else:
                    os.write(2, line)


def refusal(settings: Cluster, error: Exception) -> Exception:
    """What `ray.init` failed with, in one line."""
    text = " ".join(str(error).split())
    if settings.address is None:
        return EngineLostError(
            f"Ray could not start a cluster here: {text[:300]}", hint="see docs/cluster.md"
        )
    if "Version mismatch" in text:
        return UserInputError(
            f"the cluster at {settings.address} runs other versions: {text[:300]}",
            hint="install the same versions of Ray and Python on every machine",
        )
    if "Failed to connect" in text or "authentication" in text.lower() or "token" in text.lower():
        return UserInputError(
            f"the cluster at {settings.address} does not let this program in",
            hint="set RAY_AUTH_TOKEN or ray.token_file to the token of its head, if that is a Ray head",
        )
    return EngineLostError(
        f"the cluster at {settings.address} could not be joined: {text[:300]}",
        hint="this machine must be a node of it: ray start --address=...; see docs/cluster.md",
    )

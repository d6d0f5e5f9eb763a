"""Which hosts the server may listen on without keys, and which Host headers name it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable

from ...errors import UserInputError
from .keys import KeyRing

log = logging.getLogger(__name__)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host can be reached only from this machine."""
    try:
        found = socket.getaddrinfo(host or None, None, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(
        ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found
    )


def check_exposure(host: str, keys: KeyRing, *, allow_without_keys: bool) -> None:
    """Refuse to serve the network without keys.

    Raises:
        UserInputError: `host` is not loopback, there are no keys, and nobody said that this is meant.
    """
    if keys.required or is_loopback(host):
        return
    if allow_without_keys:
        log.warning("everyone who can reach %s may use this server: it has no keys", host)
        return
    raise UserInputError(
        f"server.host={host} lets others in, and there are no keys",
        hint="set LQMF_API_KEYS, make one with `lqmf keys --add NAME`, or allow it: server.allow_without_keys=true",
    )


class HostPolicy:
    """Which Host headers name this server. This stops DNS rebinding: such a page still sends its own host name.

    Args:
        host: what the server is bound to. Behind a tunnel or in a container its port is another one outside.
        allowed: more names; `name` is good with any port, `name:port` with that one, `*` is everything.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self._names = {*_LOOPBACK_NAMES, host.lower(), socket.gethostname().lower()}
        self._allowed = {entry.lower() for entry in allowed}
        # Unlike a name, an address cannot be redirected to another machine.
        self._addresses = not is_loopback(host)

    def permits(self, given: str) -> bool:
        """Whether this Host header, port included, names this server."""
        given = given.lower()
        name, port = _split_port(given)
        name = name.removesuffix(".")
        if self._allowed & {"*", given}:
            return True
        if port and not (port.isascii() and port.isdigit()):
            return False
        return name in self._allowed | self._names or (self._addresses and _is_address(name))


def _split_port(netloc: str) -> tuple[str, str]:
    if netloc.startswith("["):
        name, bracket, rest = netloc.partition("]")
        return name + bracket, rest.removeprefix(":")
    name, _, port = netloc.partition(":")
    return name, port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True

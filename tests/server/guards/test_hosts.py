from __future__ import annotations

import socket

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.server.guards.hosts import HostPolicy, check_exposure, is_loopback
from lqmf_runner.server.guards.keys import KeyRing, parse_keys

KEYS = KeyRing(parse_keys("sesame,reader:use"))
OPEN = KeyRing()


def test_a_server_on_the_network_knows_its_addresses_but_no_strange_name() -> None:
    policy = HostPolicy("0.0.0.0")
    assert policy.permits("192.0.2.7")
    assert policy.permits("192.0.2.7:80")
    assert policy.permits("[2001:db8::1]:80")
    assert policy.permits(f"{socket.gethostname()}:80")
    assert not policy.permits("evil.example:80")
    assert policy.permits("192.0.2.7:8080")  # as it is mapped outside a container
    assert HostPolicy("0.0.0.0", ["*"]).permits("evil.example:1")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("", False), ("192.0.2.1", False), ("no.such.host.invalid", False),
    ],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_network_is_not_served_without_keys_unless_that_is_meant() -> None:
    with pytest.raises(UserInputError, match="no keys"):
        check_exposure("0.0.0.0", OPEN, allow_without_keys=False)
    check_exposure("0.0.0.0", OPEN, allow_without_keys=True)
    check_exposure("0.0.0.0", KEYS, allow_without_keys=False)
    check_exposure("127.0.0.1", OPEN, allow_without_keys=False)

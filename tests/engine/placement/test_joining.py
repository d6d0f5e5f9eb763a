"""Which address of this machine a cluster's nodes are given."""

from __future__ import annotations

import pytest

from lqmf_runner.engine.placement import joining
from lqmf_runner.engine.placement.joining import own_address


@pytest.mark.parametrize(
    ("head", "ways", "found"),
    [
        ("127.0.0.1:6379", {}, "127.0.0.1"),
        ("10.77.0.1:6379", {("10.77.0.1", 6379): "10.77.0.2"}, "10.77.0.2"),
        ("10.77.0.1:6379", {("10.77.0.1", 6379): "10.77.0.2", ("8.8.8.8", 53): "192.0.2.7"}, None),
        ("[fd00::1]:6379", {("fd00::1", 6379): "fd00::2"}, "fd00::2"),
        ("10.77.0.1:6379", {}, None),
    ],
    ids=["loopback", "no way out", "a way out, which Ray takes", "IPv6", "no way at all"],
)
def test_where_ray_cannot_know_it_is_the_one_on_the_way_to_the_head(
    head: str, ways: dict[tuple[str, int], str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would take the head's address for that of this machine."""
    monkeypatch.setattr(joining, "_way_to", ways.get)
    assert own_address(head) == found


def test_the_way_to_an_address_is_found_without_sending_anything() -> None:
    assert joining._way_to(("127.0.0.1", 9)) == "127.0.0.1"

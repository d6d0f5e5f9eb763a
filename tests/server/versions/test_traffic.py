"""Which version answers which request."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import ModelNotFoundError, TrackingError, UnavailableError
from lqmf_runner.models.registered import WeightsVersion
from lqmf_runner.server.versions.registry import Registry
from lqmf_runner.server.versions.traffic import Traffic
from lqmf_runner.tracking.versions import AliasChange, AliasState

from ...support.runs.versions import MemoryRegistry, version


def registry(*versions: object) -> Registry:
    memory = MemoryRegistry(*versions)  # type: ignore[arg-type]
    return Registry(TrackingConfig(), read=memory.read, change=memory.change)


async def test_a_name_is_itself_and_an_alias_is_a_version():
    traffic = Traffic(registry(version("x", 3, "champion"), version("x", 4)))
    assert [await traffic.target(name) for name in ("x", "x@champion", "x@4", "a@b.gguf")] == [
        "x",
        "x@3",
        "x@4",
        "a@b.gguf",
    ]
    with pytest.raises(ModelNotFoundError) as caught:
        await traffic.target("x@nobody")
    assert caught.value.hint == "aliases: champion; versions: 3 to 4"


async def test_shares_hold_over_keys_and_a_key_stays_with_its_version():
    traffic = Traffic(start={"x": {"x@3": 90, "x@4": 10}})
    keys = [f"session-{n}" for n in range(4000)]
    first = [await traffic.target("x", key) for key in keys]
    assert first == [await traffic.target("x", key) for key in keys]
    share = Counter(first)["x@4"] / len(keys)
    assert abs(share - 0.1) < 0.02, "4 standard deviations of a binomial"
    traffic.direct("x", {"x@3": 80, "x@4": 20})
    moved = [key for key, before in zip(keys, first, strict=True) if await traffic.target("x", key) != before]
    assert abs(len(moved) / len(keys) - 0.1) < 0.02, "only those that had to"


async def test_a_registry_that_fails_once_it_was_read_is_believed_a_while_longer():
    memory = MemoryRegistry(version("x", 3, "champion"))
    broken = False

    def read(*args: object, **kwargs: object) -> object:
        if broken:
            raise TrackingError("down")
        return memory.read(TrackingConfig())

    found = Registry(TrackingConfig(), read=read)  # type: ignore[arg-type]
    assert await Traffic(found).target("x@champion") == "x@3"
    broken, found._tried_at = True, -1e9
    assert await Traffic(found).target("x@champion") == "x@3"
    with pytest.raises(UnavailableError):
        await found.versions(fresh=True)


async def test_a_reading_that_began_before_a_promote_is_not_believed_after_it():
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4))
    reading, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(config: TrackingConfig, *, timeout_s: int = 0) -> object:
        """What was there at the start of the reading, which takes as long as it takes."""
        found = memory.read(config)
        loop.call_soon_threadsafe(reading.set)
        assert go.wait(20)
        return found

    found = Registry(TrackingConfig(), read=slow, change=memory.change)  # type: ignore[arg-type]
    traffic = Traffic(found)
    early = asyncio.create_task(traffic.target("x@champion"))
    await reading.wait()
    await found.change(AliasChange(name="x", alias="champion", number=4, expected=3))
    go.set()
    assert await early == "x@3", "as it was when it asked"
    assert await traffic.target("x@champion") == "x@4"


@pytest.mark.parametrize(
    ("moved_to", "readable", "said"),
    [
        (4, True, None),
        (3, True, "champion of x is on x@3"),
        (3, False, "it is not known whether champion of x was moved"),
    ],
)
async def test_after_a_change_that_failed_the_words_are_what_the_registry_has(
    moved_to: int, readable: bool, said: str | None
):
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4))
    change = AliasChange(name="x", alias="champion", number=4, expected=3)

    def lost(config: TrackingConfig, change: AliasChange, *, timeout_s: int = 0) -> AliasState:
        if moved_to == 4:
            memory.change(config, change)
        raise TrackingError("the answer was lost")

    def read(config: TrackingConfig, *, timeout_s: int = 0) -> object:
        if not readable:
            raise TrackingError("down")
        return memory.read(config)

    found = Registry(TrackingConfig(), read=read, change=lost)  # type: ignore[arg-type]
    if said is None:
        assert (await found.change(change)).number == 4
        return
    with pytest.raises(UnavailableError) as caught:
        await found.change(change)
    assert said in caught.value.message


async def test_a_registry_that_never_answered_is_not_asked_by_each_request():
    asked = 0

    def down(*_: object, **__: object) -> list[WeightsVersion]:
        nonlocal asked
        asked += 1
        raise TrackingError("no answer")

    versions = Registry(TrackingConfig(), read=down)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await versions.versions()
    assert asked == 1
    with pytest.raises(UnavailableError):
        await versions.versions(fresh=True)
    assert asked == 2

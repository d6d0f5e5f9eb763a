"""What workers hold of a node: what was asked for, and more if they were seen to use more."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.engine.placement.nodes import Node, Resources
from lqmf_runner.engine.placement.reservations import Ledger
from lqmf_runner.types import ModelSpec, Placement

NODE = Node(id="1", name="n1", labels={}, total=Resources(8, 0, 8000), free=Resources(8, 0, 8000))


def spec(path: str = "", options: dict[str, object] | None = None, **placement: object) -> ModelSpec:
    where = Placement(kind="ray", **placement)  # type: ignore[arg-type]
    return ModelSpec(name="m", format="gguf", path=path, options=options or {}, placement=where)


def test_needs_come_from_the_settings_or_from_threads_and_weights(tmp_path: Path) -> None:
    needs_of = Ledger().needs_of
    assert needs_of(spec(num_cpus=1.5, num_gpus=0.5, memory_mb=123.0)) == Resources(1.5, 0.5, 123.0)
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"x" * 10_000_000)
    assert needs_of(spec(str(weights), {"n_threads": 3})).cpus == 3
    assert needs_of(spec(str(weights))).cpus == 1
    overhead = needs_of(spec()).memory_mb
    assert needs_of(spec(str(weights))).memory_mb == pytest.approx(11 + overhead)
    assert needs_of(spec("a-name/on-the-hub")).memory_mb == overhead


def test_what_a_worker_was_seen_to_use_counts_for_its_node_and_for_the_next_of_its_kind() -> None:
    ledger = Ledger()
    model, other = spec(options={"n_ctx": 100}), spec(options={"n_ctx": 200})
    guess = ledger.needs_of(model)
    held = ledger.hold(model, NODE, guess)
    ledger.measured(held, 3000)
    ledger.measured(held, 2000)  # less now, but it may use as much again
    assert [r.taken.memory_mb for r in ledger.on("1")] == [3000]
    assert ledger.needs_of(model).memory_mb == 3000
    assert ledger.needs_of(other) == guess
    ledger.release(held)
    assert list(ledger.on("1")) == []


def test_a_worker_that_uses_less_holds_what_was_asked_for_it() -> None:
    ledger = Ledger()
    held = ledger.hold(spec(), NODE, Resources(1, 0, 1000))
    ledger.measured(held, 50)
    assert held.taken.memory_mb == 1000
    assert ledger.needs_of(spec()) == Ledger().needs_of(spec())  # it may use more later
    assert ledger.needs_of(spec(memory_mb=700.0)).memory_mb == 700  # what somebody says goes first


@pytest.mark.parametrize(
    ("needs", "workers"),
    [
        (Resources(2, 0, 100), 4),
        (Resources(1, 0, 4000), 2),
        (Resources(0.5, 0, 1), 16),
        (Resources(9, 0, 1), 1),
    ],
)
def test_a_node_has_room_for_as_many_workers_as_its_scarcest_resource_allows(
    needs: Resources, workers: int
) -> None:
    assert NODE.room_for(needs) == workers

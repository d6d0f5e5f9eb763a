"""The choice of a node from what is free, without a cluster."""

from __future__ import annotations

import pytest

from lqmf_runner.engine.placement.nodes import Node, Resources, choose
from lqmf_runner.errors import DoesNotFitError, NoRoomOnNodesError
from lqmf_runner.types import ModelSpec, Placement

ALL = Resources(cpus=4, gpus=1, memory_mb=4000)


def node(name: str, *, free: Resources = ALL, workers: int = 0, **labels: str) -> Node:
    return Node(id=f"id-{name}", name=name, labels=labels, total=ALL, free=free, workers=workers)


def spec(path: str = "", options: dict[str, object] | None = None, **placement: object) -> ModelSpec:
    where = Placement(kind="ray", **placement)  # type: ignore[arg-type]
    return ModelSpec(name="m", format="gguf", path=path, options=options or {}, placement=where)


SMALL = Resources(cpus=1, memory_mb=100)


def test_spread_takes_the_node_with_the_fewest_workers_and_pack_the_one_with_the_most() -> None:
    nodes = [node("a", workers=1), node("b", workers=0), node("c", workers=2)]
    assert choose(spec(strategy="spread"), SMALL, nodes).name == "b"
    assert choose(spec(strategy="pack"), SMALL, nodes).name == "c"


def test_of_equals_spread_takes_the_emptiest_and_pack_the_fullest() -> None:
    nodes = [node("a", free=Resources(2, 0, 4000)), node("b", free=Resources(3, 0, 4000))]
    assert choose(spec(strategy="spread"), SMALL, nodes).name == "b"
    assert choose(spec(strategy="pack"), SMALL, nodes).name == "a"


def test_pack_passes_over_a_node_that_is_full() -> None:
    nodes = [node("a", free=Resources(0.5, 1, 4000), workers=3), node("b")]
    assert choose(spec(strategy="pack"), SMALL, nodes).name == "b"


def test_every_label_must_be_there() -> None:
    nodes = [node("a", zone="x"), node("b", zone="x", gpu="h100")]
    assert choose(spec(labels=("zone=x", "gpu=h100")), SMALL, nodes).name == "b"


def test_fractions_of_cores_and_gpus_fill_a_node_exactly() -> None:
    third = Resources(cpus=0.1, gpus=0.1, memory_mb=1)
    left = Resources(cpus=1, gpus=1, memory_mb=10).less([third] * 9)
    assert left.covers(third)
    assert not left.less([third]).covers(third)


def test_a_refusal_has_the_numbers_of_every_node() -> None:
    nodes = [node("a", free=Resources(0.5, 0, 3000)), node("b", free=Resources(4, 0, 50), zone="y")]
    with pytest.raises(NoRoomOnNodesError) as caught:
        choose(spec(), Resources(cpus=1, memory_mb=100), nodes)
    assert "'m' needs 1 core and 100 MB" in caught.value.message
    assert "a (0.5 of 4 cores, 3000 of 4000 MB free)" in caught.value.message
    assert "b (4 of 4 cores, 50 of 4000 MB free)" in caught.value.message


def test_a_cluster_without_nodes_is_said() -> None:
    with pytest.raises(DoesNotFitError, match="there is none"):
        choose(spec(), SMALL, [])


@pytest.mark.parametrize(
    ("labels", "cpus"), [(("zone=nowhere",), 1), ((), 5)], ids=["no such label", "more than a node has"]
)
def test_what_no_idle_node_could_take_asks_for_no_room(labels: tuple[str, ...], cpus: float) -> None:
    """So that no model is unloaded for it."""
    with pytest.raises(DoesNotFitError) as caught:
        choose(spec(labels=labels), Resources(cpus=cpus, memory_mb=100), [node("a")])
    assert not isinstance(caught.value, NoRoomOnNodesError)

"""A real Ray cluster of a head and three nodes on this machine, on loopback only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.types import Cluster, ModelSpec, Placement

from ...support.models.tiny import make_gguf
from ...support.ray_nodes import RayNodes, running_ray


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayNodes]:
    """The cluster; nodes can be added and removed. This process is joined to it by the first engine that is placed."""
    with running_ray() as nodes:
        for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b")):
            nodes.add(name, 2, f"zone={zone}")
        before = dict(os.environ)
        os.environ |= nodes.env
        try:
            yield nodes
        finally:
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("placed") / "tiny.gguf")


@pytest.fixture
def spec(cluster: RayNodes, tiny: Path) -> ModelSpec:
    """A tiny model to be placed on a node of the cluster."""
    return placed(cluster, tiny)


def placed(
    cluster: RayNodes, path: Path, *, settings: dict[str, Any] | None = None, **placement: Any
) -> ModelSpec:
    """The specification of a model that one core and 300 MB of a node suffice for."""
    joined = Cluster(address=cluster.address, **(settings or {}))
    where = Placement(kind="ray", cluster=joined, **{"num_cpus": 1.0, "memory_mb": 300.0, **placement})
    options = {"max_slots": 4, "batch_invariant": True}
    return ModelSpec(name="tiny", format="gguf", path=str(path), options=options, placement=where)

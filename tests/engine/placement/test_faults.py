"""A server with replicas on the nodes of a cluster, which are killed and stopped at random while clients ask it."""

from __future__ import annotations

import random
from pathlib import Path

import psutil

from ...support.faults.replicas import PlacedReplicas
from ...support.faults.soak import all_end, soak
from ...support.ray_nodes import RayNodes
from ...support.server.processes import MODEL, Program

FAULTS = ("worker", "node", "actor", "hang", "worker", "actor", "pause", "node", "worker", "actor")
COUNT = 3


async def test_workers_actors_and_nodes_that_are_killed_or_hang_cost_only_what_was_begun(
    cluster: RayNodes, tmp_path: Path
):
    """What had sent nothing is answered, all else ends with its error in time, and nothing is left."""
    randomly = random.Random(1)
    program, replicas = Program(tmp_path), PlacedReplicas(cluster, randomly)
    assert not await all_end(replicas, 0), "of the tests before"
    placement = [
        "placement=ray", f"ray.address={cluster.address}", f"placement.replicas={COUNT}",
        "placement.num_cpus=1", "placement.memory_mb=300",
    ]  # fmt: skip
    options = ["backend.batch_invariant=true", "backend.max_slots=4", "server.ui=false"]
    with program.serve(*placement, *options, **cluster.env) as server:
        process = psutil.Process(server.process.pid)
        report = await soak(server.url, MODEL, process, replicas, FAULTS, randomly, count=COUNT)
        assert not report.wrong, report
        assert report.outcomes["stream 200"] > 10, report
        assert report.outcomes["whole 200"] > 10, report
        assert not await all_end(replicas, 2 * COUNT)
        (before, after) = report.server["ports"]
        assert after == before, report
        assert server.end() == 0
    assert not await all_end(replicas, 0)

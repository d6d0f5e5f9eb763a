"""Replicas killed and stopped at random under load: `python benchmarks/replicas/soak_kills.py [--faults 100] [--ray]`.

Starts a server with four replicas of a tiny model and eight clients who know what each answer must be, half of whom
stream. Then it kills a worker, and so on. With --ray the replicas are on the nodes of a Ray cluster on this machine;
then it also kills the processes that start the workers, and whole nodes, and makes nodes stand still, for good or for
a moment. The next fault comes when three replicas are there. Bars: an answer that is not streamed is always 200 and
the right one; a stream that has had nothing is answered; one that breaks has its error within 3 s of a kill and 6 s of
a standstill; no answer is a 500; and at the end no process, no port and not more than 20 MB of memory are left. The
exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.faults.replicas import LocalReplicas, PlacedReplicas
from tests.support.faults.soak import all_end, soak
from tests.support.ray_nodes import RayNodes, running_ray
from tests.support.server.processes import MODEL, Program

REPLICAS, NODES, MOST_GROWTH_MB = 4, 4, 20.0
SETTINGS = [
    "server.ui=false", "backend.batch_invariant=true", "backend.max_slots=4", "backend.n_threads=1",
    f"placement.replicas={REPLICAS}",
]  # fmt: skip


async def main(faults: int, seed: int, *, ray: bool) -> int:
    randomly = random.Random(seed)
    with contextlib.ExitStack() as stack:
        program = Program(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        placement, environment = [], {}
        cluster: RayNodes | None = None
        if ray:
            cluster = stack.enter_context(running_ray())
            placement = ["placement=ray", f"ray.address={cluster.address}", "placement.memory_mb=300"]
            environment = cluster.env
            for number in range(NODES):
                cluster.add(f"n{number + 1}", 2, "zone=any")
            placed = PlacedReplicas(cluster, randomly)
        server = stack.enter_context(program.serve(*SETTINGS, *placement, **environment))
        process = psutil.Process(server.process.pid)
        replicas = placed if cluster else LocalReplicas(process, randomly)
        kinds = randomly.choices(replicas.kinds, k=faults)
        report = await soak(server.url, MODEL, process, replicas, kinds, randomly, count=REPLICAS)
        wrong = report.wrong
        processes = REPLICAS * (2 if cluster else 1)
        wrong += [f"{left} is left" for left in await all_end(replicas, processes)]
        if (code := server.end()) != 0:
            wrong.append(f"the server ended with {code}")
        wrong += [f"{left} is left at the end" for left in await all_end(replicas, 0)]
        if report.server["ports"][1] > report.server["ports"][0]:
            wrong.append("a port is left open")
        if (growth_mb := report.server["memory_mb"][1] - report.server["memory_mb"][0]) > MOST_GROWTH_MB:
            wrong.append(f"the server has grown by {growth_mb:.1f} MB")
    print(json.dumps(report.shown(), indent=1))
    return bool(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="replicas on the nodes of a Ray cluster")
    arguments = parser.parse_args()
    raise SystemExit(asyncio.run(main(arguments.faults, arguments.seed, ray=arguments.ray)))

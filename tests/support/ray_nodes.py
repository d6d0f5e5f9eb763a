"""A Ray cluster of several nodes on loopback, as a process of its own: `python -m tests.support.ray_nodes`.

Commands on its stdin, one a line: `add NAME CPUS KEY=VALUE`, `remove NAME`. It answers each with a line; the first line
is the cluster's address. It ends with its stdin.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # takes 127.0.0.1 for the address of this machine
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_METRICS_COLLECTION": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}


class RayNodes:
    """The test's side of the cluster. `env` is what a program needs to join it at `address`.

    `nodes` are those beside the head: the cores and the label of each.
    """

    def __init__(self, process: subprocess.Popen[str], env: dict[str, str]) -> None:
        self._process = process
        self.nodes: dict[str, tuple[int, str]] = {}
        self.env = env
        self.address = self._answer()

    def add(self, name: str, cpus: int, label: str) -> None:
        self._ask(f"add {name} {cpus} {label}")
        self.nodes[name] = (cpus, label)

    def remove(self, name: str) -> None:
        """End a node at once, as a machine that fails."""
        self._ask(f"remove {name}")
        del self.nodes[name]

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise RuntimeError("the cluster has ended")


@contextlib.contextmanager
def running_ray() -> Iterator[RayNodes]:
    """A head without cores, to which nodes can be added; skips where Ray is not installed."""
    if find_spec("ray") is None:  # imported here, it would keep this process from any cluster with a token
        pytest.skip("Ray is not installed: pip install 'lqmf-runner[ray]'")
    folder = tempfile.mkdtemp(prefix="lqmf-", dir="/tmp")  # short: paths of sockets
    env = {**_ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, text=True,
        env={**os.environ, **env, "XDG_CACHE_HOME": f"{folder}/cache"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        yield RayNodes(process, env)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the cluster until stdin ends."""
    from ray.cluster_utils import Cluster

    common = {"object_store_memory": 80 << 20, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    tuned = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_timeout_ms": 1000,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **common,
            "num_cpus": 0,
            "_system_config": {**tuned, "health_check_failure_threshold": 3},
        },
    )
    nodes = {}
    try:
        print(f"> {cluster.address}", flush=True)
        for line in sys.stdin:
            verb, name, *rest = line.split()
            if verb == "add":
                key, _, value = rest[1].partition("=")
                nodes[name] = cluster.add_node(
                    **common, num_cpus=int(rest[0]), memory=4 * 10**9, labels={key: value}, node_name=name
                )
            else:
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
            print("> done", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

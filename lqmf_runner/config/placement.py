"""Where the worker processes of a model run: the group `placement`, and the settings `ray` of the cluster."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field

import msgspec

from ..errors import UserInputError
from ..types import Cluster, Placement
from .checks import at_least, one_of, positive, within
from .texts import FilePath, Name

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


@dataclass(frozen=True)
class PlacementConfig:
    """Where a model's workers run, how many there are, and what each may use.

    Attributes:
        kind: "local" starts them on this machine, "ray" on the nodes of a Ray cluster.
        replicas: workers that hold the model. With `min_replicas` and `max_replicas`, how many there are at first.
        min_replicas, max_replicas: bounds between which their number follows the queue; null is `replicas`.
        num_cpus: cores of one worker, fractions allowed; it computes with as many threads. null is
            `backend.n_threads`, or one core where that is null too. Only `kind: ray` counts cores.
        num_gpus: GPUs of one worker; workers with fractions share one.
        memory_mb: memory that a worker is taken to need, in MB of 10^6 bytes; null estimates it from the weights.
        labels: "key=value" labels that a node must have.
        strategy: "spread" takes the node with the fewest workers of ours, "pack" the one with the most.
        files: "path" wants the model's files on the node, under the path that they have here. "send" sends them into
            the node's cache, if they are not there. "auto" sends them if they are neither there nor under their path.
    """

    kind: str = "local"
    replicas: int = 1
    min_replicas: int | None = None
    max_replicas: int | None = None
    num_cpus: float | None = None
    num_gpus: float = 0.0
    memory_mb: float | None = None
    labels: list[Name] = field(default_factory=list)
    strategy: str = "spread"
    files: str = "auto"

    def __post_init__(self) -> None:
        one_of("placement.kind", self.kind, ("local", "ray"))
        one_of("placement.strategy", self.strategy, ("spread", "pack"))
        one_of("placement.files", self.files, ("auto", "path", "send"))
        at_least("placement.replicas", self.replicas, 1)
        low = self.replicas if self.min_replicas is None else self.min_replicas
        high = self.replicas if self.max_replicas is None else self.max_replicas
        at_least("placement.min_replicas", low, 1)
        if None not in (self.min_replicas, self.max_replicas) and low > high:
            raise UserInputError(
                f"placement.min_replicas={low} is more than max_replicas={high}",
                hint="the lower bound is min_replicas, the upper one max_replicas",
            )
        if not low <= self.replicas <= high:
            raise UserInputError(
                f"placement.replicas={self.replicas} is not between min_replicas={low} and max_replicas={high}",
                hint="set placement.replicas to a number between them",
            )
        positive("placement.num_cpus", self.num_cpus)
        positive("placement.memory_mb", self.memory_mb)
        within("placement.num_gpus", self.num_gpus, 0)
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise UserInputError(
                f"placement.num_gpus={self.num_gpus:g} is not possible",
                hint="give a fraction of one GPU, or a whole number",
            )
        for label in self.labels:
            if not all(label.partition("=")[::2]):
                raise UserInputError(f"placement.labels: '{label}' is no label", hint="write it as key=value")


@dataclass(frozen=True)
class RayConfig:
    """The Ray cluster of `placement=ray`.

    Attributes:
        address: "host:port" of the head of a running cluster; null starts a cluster on this machine, for this run.
        token_file: a file with the cluster's token; null is the variable RAY_AUTH_TOKEN.
        listen_host: the address of this machine at which workers reach it; null is its address in the cluster.
        listen_port: the one port to which all workers connect; 0 takes any free one.
        tls: encrypt what workers and this process send each other.
        start_timeout_s: longest time until the process of a worker runs on its node.
        cache_mb: what the copies of model files on a node may take of its disk, in MB of 10^6 bytes. Beyond that, those
            that were unused longest are deleted, but none that a worker uses.
    """

    address: Name | None = None
    token_file: FilePath | None = None
    listen_host: Name | None = None
    listen_port: int = 0
    tls: bool = False
    start_timeout_s: float = 60.0
    cache_mb: float = 100_000.0

    def __post_init__(self) -> None:
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            raise UserInputError(
                f"ray.address={self.address} is no address",
                hint="give the head's as host:port, e.g. 10.0.0.5:6379",
            )
        within("ray.listen_port", self.listen_port, 0, 65535)
        positive("ray.start_timeout_s", self.start_timeout_s)
        positive("ray.cache_mb", self.cache_mb)


def to_placement(placement: PlacementConfig, ray: RayConfig) -> Placement:
    """Both as the plain values that a `ModelSpec` carries."""
    cluster = Cluster(**asdict(ray)) if placement.kind == "ray" else None
    return msgspec.convert({**asdict(placement), "cluster": cluster}, Placement)

"""The nodes of a cluster, the needs of a worker, and the choice of a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ...errors import DoesNotFitError, NoRoomOnNodesError
from ...types import ModelSpec


class Resources(msgspec.Struct, frozen=True):
    """Cores, GPUs (fractions are allowed) and memory in MB of 10^6 bytes."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_mb: float = 0.0

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpus - other.cpus, self.gpus - other.gpus, self.memory_mb - other.memory_mb)

    def less(self, taken: Iterable[Resources]) -> Resources:
        """What is left of it."""
        left = self
        for each in taken:
            left = left - each
        return left

    def least(self, other: Resources) -> Resources:
        """The smaller one of each."""
        return Resources(
            min(self.cpus, other.cpus), min(self.gpus, other.gpus), min(self.memory_mb, other.memory_mb)
        )

    def covers(self, needs: Resources) -> bool:
        """Whether there is enough of each, except for rounding."""
        left = self - needs
        return min(left.cpus, left.gpus) > -1e-6 and left.memory_mb > -1e-3


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is alive.

    Attributes:
        free: what nobody has asked for.
        workers: how many workers of this process it runs.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    total: Resources
    free: Resources
    workers: int = 0

    def room_for(self, needs: Resources) -> int:
        """How many workers with these needs it could run if it had nothing else to do; at least 1."""
        pairs = zip(msgspec.structs.astuple(self.total), msgspec.structs.astuple(needs), strict=True)
        return max(1, min((int(has / need + 1e-6) for has, need in pairs if need), default=1))


def choose(spec: ModelSpec, needs: Resources, nodes: Sequence[Node]) -> Node:
    """The node that the next worker of the model runs on.

    Raises:
        DoesNotFitError: none has the labels and enough of everything; the message has each node's numbers. It is
            a NoRoomOnNodesError where one would have, with less on it.
    """
    placement = spec.placement
    suitable = [node for node in nodes if _has_labels(node, placement.labels) and node.free.covers(needs)]
    if not suitable:
        possible = any(_has_labels(n, placement.labels) and n.total.covers(needs) for n in nodes)
        raise (NoRoomOnNodesError if possible else DoesNotFitError)(
            f"'{spec.name}' needs {_amount(needs, needs)}, and no node{_with(placement.labels)} has that free: "
            + (", ".join(_state(node, needs, placement.labels) for node in nodes) or "there is none"),
            hint="unload a model, add a node, or lower placement.num_cpus, num_gpus or memory_mb",
        )
    sign = 1 if placement.strategy == "spread" else -1
    return min(suitable, key=lambda node: (sign * node.workers, -sign * node.free.cpus, node.name))


def _has_labels(node: Node, labels: Sequence[str]) -> bool:
    return all(node.labels.get(key) == value for key, _, value in (label.partition("=") for label in labels))


def _with(labels: Sequence[str]) -> str:
    return f" with {' and '.join(labels)}" if labels else ""


def _state(node: Node, needs: Resources, labels: Sequence[str]) -> str:
    """ "n1 (0.5 of 2 cores, 300 of 4000 MB free)" """
    if not _has_labels(node, labels):
        return f"{node.name} (other labels)"
    parts = [f"{node.free.cpus:g} of {node.total.cpus:g} cores"]
    if needs.gpus:
        parts.append(f"{node.free.gpus:g} of {node.total.gpus:g} GPUs")
    parts.append(f"{node.free.memory_mb:.0f} of {node.total.memory_mb:.0f} MB free")
    return f"{node.name} ({', '.join(parts)})"


def _amount(amount: Resources, needs: Resources) -> str:
    cores = f"{amount.cpus:g} core{'s' * (amount.cpus != 1)}"
    gpus = f", {amount.gpus:g} GPU{'s' * (amount.gpus != 1)}" if needs.gpus else ""
    return f"{cores}{gpus} and {amount.memory_mb:.0f} MB"

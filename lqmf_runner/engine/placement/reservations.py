"""The reservations of this process's workers on the nodes: the requested resources, or the measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...formats import overhead_mb
from ...models.discover import needed_weights_mb
from ...types import ModelSpec
from .nodes import Node, Resources


class Reservation:
    """The share of a node that one worker holds, until it is released.

    Attributes:
        measured_mb: the most memory that the worker was seen to use; 0 before it was measured.
    """

    def __init__(self, kind: bytes, node: Node, needs: Resources) -> None:
        self.kind = kind
        self.node = node
        self.needs = needs
        self.measured_mb = 0.0

    @property
    def taken(self) -> Resources:
        """Resources that others cannot use: the measured ones if they exceed the requested ones."""
        memory_mb = max(self.needs.memory_mb, self.measured_mb)
        return msgspec.structs.replace(self.needs, memory_mb=memory_mb)


class Ledger:
    """All reservations, and what workers of each kind have used. A kind is a model with its settings."""

    def __init__(self) -> None:
        self._held: dict[str, list[Reservation]] = {}
        self._used_mb: dict[bytes, float] = {}

    def needs_of(self, spec: ModelSpec) -> Resources:
        """What one worker of the model is taken to need.

        Its memory is what the settings say, else an estimate from the weights, or the most that such a worker has
        used if that is more.
        """
        placement = spec.placement
        cpus = placement.num_cpus or spec.options.get("n_threads") or 1.0
        memory_mb = placement.memory_mb or max(_estimated_mb(spec), self._used_mb.get(_kind(spec), 0.0))
        return Resources(float(cpus), placement.num_gpus, memory_mb)

    def hold(self, spec: ModelSpec, node: Node, needs: Resources) -> Reservation:
        """Reserve what a worker needs."""
        reservation = Reservation(_kind(spec), node, needs)
        self._held.setdefault(node.id, []).append(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Give back what was held."""
        self._held[reservation.node.id].remove(reservation)

    def on(self, node_id: str) -> Sequence[Reservation]:
        """The reservations on a node."""
        return self._held.get(node_id, ())

    def measured(self, reservation: Reservation, memory_mb: float) -> None:
        """A worker uses so much memory. It counts from now on for its node, and for further workers of its kind."""
        reservation.measured_mb = max(reservation.measured_mb, memory_mb)
        self._used_mb[reservation.kind] = max(self._used_mb.get(reservation.kind, 0.0), memory_mb)


def _kind(spec: ModelSpec) -> bytes:
    return msgspec.json.encode((spec.format, spec.path, spec.version, spec.options), order="sorted")


def _estimated_mb(spec: ModelSpec) -> float:
    here = Path(spec.path).exists()  # else it is a name on the hub, which the node fetches
    return (needed_weights_mb(spec) if here else 0.0) * 1.1 + overhead_mb(spec.format)

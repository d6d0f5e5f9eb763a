"""`PlacedHost`: the front's side of a `Host`, the actor on a node that was reserved for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from ... import __version__
from ...errors import DoesNotFitError, EngineLostError, LqmfError, MissingDependencyError, UserInputError
from ...types import Cluster
from .cluster import RayCluster
from .host import Host
from .reservations import Reservation

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 6.0


class PlacedHost:
    """Make it, then `open` it; `close` it in any case, which also gives back what was reserved.

    Args:
        name: of the model, for errors.

    Attributes:
        node: the name of the node.
    """

    def __init__(self, cluster: RayCluster, settings: Cluster, name: str, reservation: Reservation) -> None:
        self.node = reservation.node.name
        self.start_timeout_s = settings.start_timeout_s
        self._cluster = cluster
        self._ray = cluster.ray
        self._name = name
        self._reservation = reservation
        self._actor: Any = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether there is an actor to ask."""
        return self._actor is not None and not self._closed

    async def open(self, kind: type[Host]) -> None:
        """Start the actor, and compare the versions of this program.

        Raises:
            UserInputError: the node has another version.
            MissingDependencyError: it has none.
            EngineLostError: it has not started the actor in `ray.start_timeout_s`.
        """
        try:
            async with asyncio.timeout(self.start_timeout_s):
                self._actor = await asyncio.to_thread(self._cluster.create_actor, kind, self._reservation)
                self._check_version(await self.ask("program_version"))
        except TimeoutError:
            raise self.too_slow() from None

    async def ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """The result of a method of the actor.

        Args:
            seconds: the longest time it may take.

        Raises:
            LqmfError: what the method raised, or what its silence means.
        """
        try:
            async with asyncio.timeout(seconds):
                return await (await asyncio.to_thread(getattr(self._actor, method).remote, *arguments))
        except TimeoutError:
            assert seconds is not None
            raise EngineLostError(
                f"node {self.node} has not answered for {seconds:g} s", hint="see what the node is doing"
            ) from None
        except self._ray.exceptions.RayError as error:
            raise self._translated(error) from None

    def measured(self, memory_mb: float) -> None:
        """What it has started uses so much memory of the node."""
        self._cluster.ledger.measured(self._reservation, memory_mb)

    async def close(self, method: str, *, seconds: float = _CLOSE_TIMEOUT_S) -> None:
        """Call the method that ends what the actor has started, then end it. A node that does not answer is given up.

        May be called twice.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._actor is not None:
                with contextlib.suppress(LqmfError):
                    await self.ask(method, seconds=seconds)
                await asyncio.to_thread(self._kill)
        finally:
            self._cluster.ledger.release(self._reservation)

    def too_slow(self) -> EngineLostError:
        """The error of a start that takes longer than `ray.start_timeout_s`."""
        return EngineLostError(
            f"node {self.node} has not started the process of '{self._name}' within {self.start_timeout_s:g} s",
            hint="raise ray.start_timeout_s, or see what the node is doing",
        )

    def _kill(self) -> None:
        with contextlib.suppress(Exception):  # the cluster itself may be gone
            self._ray.kill(self._actor, no_restart=True)

    def _check_version(self, version: str) -> None:
        if version != __version__:
            raise UserInputError(
                f"node {self.node} has lqmf-runner {version}, and this program is {__version__}",
                hint="install the same version on every node",
            )

    def _translated(self, error: Exception) -> LqmfError:
        """What Ray raised, as the error of ours that it holds or that it means."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, LqmfError):
            return cause
        text = str(error)
        if "ModuleNotFoundError" in text or "ImportError" in text:
            return MissingDependencyError(
                f"node {self.node} does not have lqmf-runner {__version__}",
                hint="install it there, in the Python that Ray runs with",
            )
        if isinstance(error, self._ray.exceptions.ActorUnschedulableError):
            return DoesNotFitError(f"node {self.node} cannot take '{self._name}' any more", hint="try again")
        if isinstance(error, self._ray.exceptions.RayTaskError):
            log.error("node %s failed at %s: %s", self.node, self._name, cause or text)
            return EngineLostError(  # without the text, which may name a path
                f"node {self.node} failed at '{self._name}': {type(cause or error).__name__}",
                hint="see Ray's logs on that node",
            )
        return EngineLostError(
            f"node {self.node} with '{self._name}' is lost",
            hint="load the model again, which may choose another node",
        )

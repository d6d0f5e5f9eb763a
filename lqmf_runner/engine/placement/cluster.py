"""`RayCluster`: the Ray cluster that this process has joined or started. Only here is Ray imported."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import psutil

from ...errors import (
    ConflictError,
    MissingDependencyError,
    NoRoomOnNodesError,
)
from ...install import install_line
from ...types import Cluster, ModelSpec
from .host import Host
from .joining import LOOPBACK, own_address, prepare_joining, rays_warnings_in_log, refusal
from .nodes import Node, Resources, choose
from .port import WorkerPort
from .reservations import Ledger, Reservation

log = logging.getLogger(__name__)
T = TypeVar("T")

_ANSWER_S = 5.0
_SETTLES_S, _SETTLING_S = 5.0, 0.1  # Ray notices the end of an actor a moment later
_OBJECT_STORE_BYTES = 80 << 20  # Ray's least: no tokens go through it, and files in small pieces
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_METRICS_COLLECTION": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it reports the signal to stop as a crash, with a trace on the terminal
}
_joining = threading.Lock()
_joined: RayCluster | None = None


class RayCluster:
    """Knows the nodes and their free resources, and starts actors there.

    Args:
        address: of the cluster, as the settings have it.
        host: under which workers reach this process.

    Attributes:
        ledger: what this process holds on the nodes.
    """

    def __init__(self, ray: ModuleType, address: str | None, host: str) -> None:
        self.ray = ray
        self.address = address
        self._host = host
        self.ledger = Ledger()
        self._ports: dict[Cluster, WorkerPort] = {}
        self._opening = asyncio.Lock()
        self._port_users: Counter[Cluster] = Counter()

    async def nodes(self) -> list[Node]:
        """All nodes that are alive, with their free resources."""
        nodes, free = await asyncio.to_thread(self._ask_for_nodes)
        return [self._node(node, free.get(node["NodeID"], {})) for node in nodes if node["Alive"]]

    def _ask_for_nodes(self) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
        """Nodes, and what is free by their ids. Ray's public call has only the sum over all nodes."""
        return self.ray.nodes(), self.ray._private.state.available_resources_per_node()

    def _node(self, node: dict[str, Any], ray_says: dict[str, float]) -> Node:
        """Ray's figures are a moment old, and know no measured memory: what this process holds counts at once."""
        total, taken = _resources(node["Resources"]), self._taken(node["NodeID"])
        return Node(
            id=node["NodeID"],
            name=_name(node),
            labels=node.get("Labels") or {},
            total=total,
            free=total.less(taken).least(_resources(ray_says)),
            workers=len(taken),
        )

    async def reserve(self, spec: ModelSpec) -> Reservation:
        """Choose the node of a worker and hold what it needs there, until the reservation is released.

        Raises:
            DoesNotFitError: it fits nowhere.
        """
        needs = await asyncio.to_thread(self.ledger.needs_of, spec)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLES_S
        while True:
            nodes = await self.nodes()
            try:
                node = choose(spec, needs, nodes)
                break
            except NoRoomOnNodesError:
                if loop.time() > deadline or not self._may_settle(nodes):
                    raise
            await asyncio.sleep(_SETTLING_S)
        return self.ledger.hold(spec, node, needs)

    def _may_settle(self, nodes: list[Node]) -> bool:
        """Whether less is free by Ray's figures than would be without this process's workers that have just ended."""
        return any(not node.free.covers(node.total.less(self._taken(node.id))) for node in nodes)

    def _taken(self, node_id: str) -> list[Resources]:
        return [reservation.taken for reservation in self.ledger.on(node_id)]

    def create_actor(self, kind: type[Host], reservation: Reservation) -> Any:
        """An actor with the resources of the reservation. It is never started again by Ray, which could not load it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needs = reservation.needs
        return (
            self.ray.remote(kind)
            .options(
                num_cpus=needs.cpus,
                num_gpus=needs.gpus,
                memory=int(needs.memory_mb * 1e6),
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=8,
                scheduling_strategy=NodeAffinitySchedulingStrategy(reservation.node.id, soft=False),
            )
            .remote()
        )

    @contextlib.asynccontextmanager
    async def port(self, settings: Cluster) -> AsyncIterator[WorkerPort]:
        """The port for workers under these settings. It is open while somebody waits for a worker."""
        self._port_users[settings] += 1
        try:
            async with self._opening:
                if settings not in self._ports:
                    host = settings.listen_host or self._host
                    opened = await WorkerPort.open(host, settings.listen_port, tls=settings.tls)
                    self._ports[settings] = opened
            yield self._ports[settings]
        finally:
            self._port_users[settings] -= 1
            if not self._port_users[settings] and settings in self._ports:
                self._ports.pop(settings).close()


async def join(settings: Cluster) -> RayCluster:
    """The cluster of this process: it is joined, or started, at the first call.

    Raises:
        MissingDependencyError: Ray is not installed.
        UserInputError: the cluster takes no token of ours, or runs another version of Ray or Python.
        UnavailableError: nobody answers at its address.
        ConflictError: this process is in another cluster.
    """
    return await asyncio.to_thread(_join_once, settings)


def _join_once(settings: Cluster) -> RayCluster:
    global _joined
    with _joining:
        if _joined is None or not _joined.ray.is_initialized():
            _joined = _on_lasting_thread(partial(_join, settings))
        elif _joined.address != settings.address:
            raise ConflictError("this process is in another Ray cluster already", hint="use one ray.address")
        return _joined


def _on_lasting_thread(function: Callable[[], T]) -> T:
    """Call the function in a thread that stays: the kernel kills the cluster when the thread that started it ends."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)
            return
        threading.Event().wait()

    threading.Thread(target=run, name="ray", daemon=True).start()
    return result.result()


def _join(settings: Cluster) -> RayCluster:
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    folder = None
    if settings.address is None:
        folder = _prepare_own()
        options: dict[str, Any] = {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_node_ip_address": LOOPBACK,
        }
    else:
        prepare_joining(settings)
        options = {"address": settings.address}
        if own := own_address(settings.address):
            options["_node_ip_address"] = own
    ray = _import_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray._private.worker.print_to_stdstream = _log_message  # it has no setting that keeps them from stdout
    if not ray.is_initialized():  # it is where this process runs in a job of the cluster
        quiet = contextlib.nullcontext() if settings.address is None else rays_warnings_in_log()
        try:
            with quiet:
                ray.init(
                    namespace="lqmf", log_to_driver=False, configure_logging=False, logging_level=logging.ERROR,
                    **options,
                )  # fmt: skip
        except Exception as error:
            raise refusal(settings, error) from error
    if folder is not None:
        atexit.register(_end_own, ray, folder)
    return RayCluster(ray, settings.address, ray.util.get_node_ip_address())


def _import_ray() -> ModuleType:
    try:
        import ray
        import ray.util
    except ImportError:
        raise MissingDependencyError(
            "placement=ray needs Ray, which is not installed", hint=install_line("ray")
        ) from None
    return ray


def _log_message(data: dict[str, Any], **_: Any) -> None:
    """Take what Ray's nodes report of themselves to the log."""
    log.debug("%s: %s", data.get("pid"), "\n".join(data.get("lines", ())))


def _prepare_own() -> str:
    """Have Ray listen on loopback only, ask every connection for a token, and keep its files to this user.

    Ray reads these when it is imported. Without the first, it listens on all interfaces. Returns the folder of the
    files.
    """
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConflictError(
            "Ray was imported before the settings that keep a cluster to this machine",
            hint="call ray.init first, or import no Ray",
        )
    folder = tempfile.mkdtemp(prefix="lqmf-")  # for this user only; short, because it contains sockets
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": folder,
    }
    os.environ.pop("RAY_ADDRESS", None)
    return folder


def _end_own(ray: ModuleType, folder: str) -> None:
    """End the cluster that this process has started. Some of Ray's processes would stay a while without its head."""
    own = [process for process in psutil.Process().children() if _is_of(process, folder)]
    family = [*own, *(child for process in own for child in _children(process))]
    ray.shutdown()
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, _ANSWER_S)
    shutil.rmtree(folder, ignore_errors=True)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _is_of(process: psutil.Process, folder: str) -> bool:
    try:
        return bool(process.environ().get("RAY_TMPDIR") == folder)
    except psutil.Error:
        return False


def _name(node: dict[str, Any]) -> str:
    """The name that its owner has given to a node. Else Ray takes its address, which no error may tell."""
    name = node.get("NodeName")
    return name if name and name != node.get("NodeManagerAddress") else node["NodeID"][:8]


def _resources(amounts: dict[str, float]) -> Resources:
    return Resources(
        cpus=amounts.get("CPU", 0.0), gpus=amounts.get("GPU", 0.0), memory_mb=amounts.get("memory", 0.0) / 1e6
    )

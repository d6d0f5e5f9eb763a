"""Jobs of a sweep on the nodes of a Ray cluster: where they fit, and again elsewhere if a node is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...config.placement import RayConfig
from ...engine.placement.cluster import join
from ...errors import UserInputError
from ...types import Cluster
from .job import Job, Outcome, run
from .settings import RaySettings
from .sweep import Tell, with_cores

_LOOK_S = 5.0


def run_on_ray(
    jobs: Sequence[Job], settings: RaySettings, cluster: RayConfig, tell: Tell
) -> Iterator[tuple[Job, Outcome]]:
    """Run the jobs; yields them as they end.

    Raises:
        MissingDependencyError: Ray is not installed.
        UnavailableError: no cluster answers.
        UserInputError: no node has what a job needs.
    """
    # Not asyncio.run: a cluster that is started here ends with the thread that started it, which is one of the loop's.
    loop = asyncio.new_event_loop()
    try:
        ray: Any = loop.run_until_complete(join(Cluster(**asdict(cluster)))).ray
        try:
            num_cpus = _cores(_nodes(ray), settings)
            tell(f"{len(jobs)} jobs with {num_cpus} cores each on {_shown(_nodes(ray))}")
            ready = with_cores(jobs, num_cpus, share=settings.share_cores)
            yield from _Sweep(ray, settings, num_cpus, tell).run(ready)
        finally:
            ray.shutdown()
    finally:
        loop.close()


class _Sweep:
    """The jobs that Ray has, and what to do when one is lost."""

    def __init__(self, ray: Any, settings: RaySettings, num_cpus: int, tell: Tell) -> None:
        self._ray = ray
        self._settings = settings
        self._num_cpus = num_cpus
        self._tell = tell
        # A process for each job: what one leaves in it is not the next one's.
        self._task = ray.remote(max_calls=1, max_retries=0)(run).options(**_options(settings, num_cpus))
        self._waiting: dict[Any, tuple[Job, int]] = {}

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Hand the jobs to Ray; yields them as they end."""
        for job in jobs:
            self._start(job, 0)
        try:
            while self._waiting:
                ready, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=_LOOK_S)
                for reference in ready:
                    yield from self._take(reference)
                if not ready and not _fitting(_nodes(self._ray), self._settings, self._num_cpus):
                    yield from self._give_up()
        except BaseException:
            for reference in self._waiting:
                self._ray.cancel(reference)  # a KeyboardInterrupt there, as Ctrl-C does here
            raise

    def _start(self, job: Job, tries: int) -> None:
        self._waiting[self._task.remote(job)] = job, tries

    def _take(self, reference: Any) -> Iterator[tuple[Job, Outcome]]:
        job, tries = self._waiting.pop(reference)
        try:
            yield job, self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = " ".join(str(error.cause or error).split())[-500:]
            yield job, Outcome(1, (f"error: {job.name}: {cause}",))
        except self._ray.exceptions.RayError as error:
            if tries < self._settings.retries:
                self._tell(f"{job.name} was lost with its node or process; it is run again")
                self._start(job, tries + 1)
            else:
                why = f"it was lost {tries + 1} times ({type(error).__name__})"
                yield job, Outcome(1, (f"error: {job.name}: {why}",))

    def _give_up(self) -> Iterator[tuple[Job, Outcome]]:
        """No node is left that could run what still waits, and Ray would wait for one for ever."""
        for reference, (job, _) in list(self._waiting.items()):
            self._ray.cancel(reference)
            del self._waiting[reference]
            yield job, Outcome(1, (f"error: {job.name}: no node is left that has what it needs",))


def _options(settings: RaySettings, num_cpus: int) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": num_cpus, "scheduling_strategy": "SPREAD"}
    if settings.num_gpus:
        options["num_gpus"] = settings.num_gpus
    if settings.memory_mb is not None:
        options["memory"] = int(settings.memory_mb * 1e6)
    if settings.labels:
        options["label_selector"] = settings.selector
        del options["scheduling_strategy"]  # Ray takes one or the other
    return options


def _nodes(ray: Any) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _fitting(
    nodes: Sequence[Mapping[str, Any]], settings: RaySettings, num_cpus: int
) -> list[Mapping[str, Any]]:
    needs = {"CPU": num_cpus, "GPU": settings.num_gpus, "memory": (settings.memory_mb or 0) * 1e6}
    return [
        node
        for node in nodes
        if all(node["Resources"].get(name, 0) >= amount for name, amount in needs.items())
        and all(node.get("Labels", {}).get(key) == value for key, value in settings.selector.items())
    ]


def _cores(nodes: Sequence[Mapping[str, Any]], settings: RaySettings) -> int:
    """Cores of a job.

    Raises:
        UserInputError: no node has what a job needs. Ray would wait for one for ever.
    """
    found = _fitting(nodes, settings, settings.num_cpus or 1)
    if not found:
        raise UserInputError(
            f"no node of the cluster has what a job needs; there is {_shown(nodes)}",
            hint="lower hydra.launcher.num_cpus, num_gpus or memory_mb, or change hydra.launcher.labels",
        )
    return settings.num_cpus or int(min(node["Resources"]["CPU"] for node in found))


def _shown(nodes: Sequence[Mapping[str, Any]]) -> str:
    """ "a (4 cores, 16000 MB, zone=z1), b (...)"; the labels without Ray's own."""
    shown = []
    for node in nodes:
        resources = node["Resources"]
        parts = [f"{resources.get('CPU', 0):g} cores", f"{resources.get('memory', 0) / 1e6:.0f} MB"]
        parts += [f"{resources['GPU']:g} GPUs"] if resources.get("GPU") else []
        parts += [f"{k}={v}" for k, v in node.get("Labels", {}).items() if not k.startswith("ray.io/")]
        shown.append(f"{node.get('NodeName') or node['NodeManagerAddress']} ({', '.join(parts)})")
    return ", ".join(shown) or "none"

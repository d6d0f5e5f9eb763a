"""`hydra/launcher=lqmf_ray`: jobs of a sweep on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lqmf_runner.app.launchers.settings import RaySettings


class LqmfRayLauncher(Launcher):
    """Hands the jobs to Ray."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called once, before `launch`."""
        self._hydra_context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; those that failed raise when Hydra asks for their return value."""
        from lqmf_runner.app.compose import plain
        from lqmf_runner.app.launchers.on_ray import run_on_ray
        from lqmf_runner.app.launchers.sweep import launch

        settings = RaySettings(**self._settings)
        cluster = plain(self._config, "ray")
        return launch(
            self._hydra_context, self._config, job_overrides, initial_job_idx,
            lambda jobs, tell: run_on_ray(jobs, settings, cluster, tell),
        )  # fmt: skip


_NODE = OmegaConf.structured(RaySettings)
OmegaConf.set_readonly(_NODE, None)  # a frozen dataclass gives a node that takes no overrides
with open_dict(_NODE):
    _NODE["_target_"] = "hydra_plugins.lqmf_launchers.ray_launcher.LqmfRayLauncher"
ConfigStore.instance().store(group="hydra/launcher", name="lqmf_ray", node=_NODE, provider="lqmf_launchers")

"""What a user may set of a launcher, `hydra.launcher.*`. Hydra's plugins make their schemas of these classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import UserInputError

CLUSTERS = ("slurm", "local")


@dataclass(frozen=True)
class RaySettings:
    """`hydra.launcher.*` of `hydra/launcher=lqmf_ray`. The cluster is that of the group `ray`.

    Attributes:
        num_cpus: cores of a job, which computes with as many threads. None is those of the smallest node that fits.
        num_gpus: GPUs of a job, fractions allowed.
        memory_mb: memory that a node must have left for a job, in MB of 10^6 bytes. Ray only counts it.
        labels: "name=value" labels that a node must have.
        retries: how often a job is run again elsewhere if its node is lost.
        share_cores: jobs may compute on the same cores, so that their speeds mean nothing.
    """

    num_cpus: int | None = None
    num_gpus: float = 0.0
    memory_mb: float | None = None
    labels: list[str] = field(default_factory=list)
    retries: int = 2
    share_cores: bool = False

    def __post_init__(self) -> None:
        _check_pairs("labels", self.labels, "\"hydra.launcher.labels=['name=value']\"")
        _check_least("num_cpus", self.num_cpus, 1)
        _check_least("num_gpus", self.num_gpus, 0)
        _check_least("memory_mb", self.memory_mb, 0)
        _check_least("retries", self.retries, 0)

    @property
    def selector(self) -> dict[str, str]:
        """The labels by key."""
        return dict(label.split("=", 1) for label in self.labels)


@dataclass(frozen=True)
class SlurmSettings:
    """`hydra.launcher.*` of `hydra/launcher=lqmf_slurm`.

    Attributes:
        cluster: "slurm", or "local": processes of this machine, as many at once as have cores.
        num_cpus: cores of a job, which computes with as many threads.
        num_gpus: GPUs of a job.
        memory_mb: memory of a job, in MB of 10^6 bytes; None is Slurm's default.
        timeout_min: minutes after which Slurm ends a job.
        partition: Slurm's; None is its default.
        options: further options of sbatch, "name=value".
        setup: lines of shell before a job, e.g. "module load cuda".
        retries: how often a job is run again if its node is lost.
        share_cores: jobs may compute on the same cores, so that their speeds mean nothing.
    """

    cluster: str = "slurm"
    num_cpus: int = 4
    num_gpus: int = 0
    memory_mb: float | None = None
    timeout_min: int = 60
    partition: str | None = None
    options: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    retries: int = 2
    share_cores: bool = False

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise UserInputError(
                f"hydra.launcher.cluster={self.cluster} is unknown", hint=f"one of: {', '.join(CLUSTERS)}"
            )
        _check_pairs("options", self.options, "\"hydra.launcher.options=['name=value']\"")
        _check_least("num_cpus", self.num_cpus, 1)
        _check_least("num_gpus", self.num_gpus, 0)
        _check_least("memory_mb", self.memory_mb, 0)
        _check_least("timeout_min", self.timeout_min, 1)
        _check_least("retries", self.retries, 0)


def _check_pairs(name: str, pairs: Sequence[str], example: str) -> None:
    for pair in pairs:
        if not all(pair.partition("=")[::2]):
            raise UserInputError(
                f"hydra.launcher.{name}: '{pair}' is not name=value", hint=f"write them as {example}"
            )


def _check_least(name: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise UserInputError(f"hydra.launcher.{name}={value} is below {least}")

"""The sweep's side of a launcher: packs the jobs, takes what they leave, and has it sent to MLflow."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ...config import TrackingConfig
from ...redaction import redact, redact_text, secrets_in
from ...runs.folder import MARK_NAME, sweep_name
from ..compose import plain
from ..hydra import JobError, job_words
from .job import Job, Outcome, unpack
from .sender import Sender

Tell = Callable[[str], None]
"""Says a line to the user."""
Runner = Callable[[Sequence[Job], Tell], Iterator[tuple[Job, Outcome]]]
"""Runs jobs somewhere; yields them as they end."""


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    runner: Runner,
) -> list[JobReturn]:
    """Run the jobs of a sweep; returns how each ended, in their order.

    Raises:
        UserInputError: no machine can run the jobs.
        KeyboardInterrupt: the user ended it. What was done is kept.
    """
    setup_globals()
    sweep_dir = Path(str(config.hydra.sweep.dir)).absolute()
    sweep_dir.mkdir(parents=True, exist_ok=True)
    sweep_name(sweep_dir)  # leaves the mark
    secrets = secrets_in(OmegaConf.to_container(config))

    def tell(line: str) -> None:
        print(redact(line, secrets), file=sys.stderr, flush=True)

    tracking: TrackingConfig = plain(config, "tracking")
    packed = [
        _pack(context, config, first + number, overrides, sweep_dir)
        for number, overrides in enumerate(job_overrides)
    ]
    ended: dict[int, Outcome] = {}
    with Sender(tracking, sweep_dir, tell) as sender:
        for job, outcome in runner([job for job, _ in packed], tell):
            ended[job.number] = outcome
            folder = sweep_dir / job.subdir
            if outcome.files is not None:
                unpack(outcome.files, folder)
            where = f" on {outcome.host}" if outcome.host else ""
            ending = "is done" if outcome.exit_code == 0 else "has failed"
            tell(f"{job.name} {ending}{where}, {len(ended)} of {len(packed)}")
            for line in outcome.said:
                tell(line)
            sender.add(folder)
    return [_returned(composed, ended[job.number], secrets) for job, composed in packed]


def _pack(
    context: HydraContext, config: DictConfig, number: int, overrides: Sequence[str], sweep_dir: Path
) -> tuple[Job, DictConfig]:
    composed = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)  # for `${hydra:job.num}`
    varied = [override for override in overrides if override not in sys.argv]
    job = Job(
        number=number,
        name=f"job {number} ({', '.join(varied)})",
        composed=cloudpickle.dumps((context, _without_login(composed), _state())),
        typed=tuple(map(_clean, job_words(overrides))),
        argv=tuple(map(_clean, sys.argv[1:])),
        sweep_dir=sweep_dir,
        subdir=str(OmegaConf.select(composed, "hydra.sweep.subdir")),
        mark=(sweep_dir / MARK_NAME).read_text("utf-8"),
        folder=Path.cwd(),
    )
    return job, composed


def _without_login(composed: DictConfig) -> DictConfig:
    """The configuration without the login of the store, which the job does not need: the launcher sends its run."""
    clean = copy.deepcopy(composed)
    with read_write(clean), read_write(clean.hydra):
        clean.tracking.uri = redact_text(str(clean.tracking.uri))
        clean.hydra.overrides.task = [_clean(word) for word in clean.hydra.overrides.task]
    return clean


def _clean(word: str) -> str:
    return redact_text(word) if word.lstrip("+").startswith("tracking.") else word


def _state() -> dict[str, Any]:
    """Hydra's singletons, without the configuration, which the job gets anyway."""
    state = Singleton.get_state()
    kept = {kind: known for kind, known in state["instances"].items() if kind is not HydraConfig}
    return {**state, "instances": kept}


def with_cores(jobs: Sequence[Job], num_cpus: int, *, share: bool) -> list[Job]:
    """The jobs, with the cores that each has."""
    return [dataclasses.replace(job, num_cpus=num_cpus, share_cores=share) for job in jobs]


def _returned(composed: DictConfig, outcome: Outcome, secrets: Sequence[str]) -> JobReturn:
    returned = JobReturn()
    returned.overrides = redact(list(composed.hydra.overrides.task), secrets)  # Hydra prints them
    returned.cfg = composed
    returned.task_name = str(composed.hydra.job.name)
    failed = outcome.exit_code != 0
    returned.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    returned.return_value = JobError(outcome.exit_code) if failed else None
    return returned

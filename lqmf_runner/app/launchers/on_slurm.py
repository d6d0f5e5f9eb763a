"""Jobs of a sweep as jobs of Slurm, by submitit; `cluster=local` runs them as processes of this machine."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import MissingDependencyError, UserInputError
from ...install import install_line
from .job import Job, Outcome, run
from .settings import SlurmSettings
from .sweep import Tell, with_cores

_POLL_S = {"slurm": 10.0, "local": 0.5}
_TIMED_OUT = ("timed-out", "state: TIMEOUT")  # in what submitit says of a job that took too long
_FOLDER = ".submitit"  # in the sweep's folder, while it runs: the jobs and their logs


def run_on_slurm(jobs: Sequence[Job], settings: SlurmSettings, tell: Tell) -> Iterator[tuple[Job, Outcome]]:
    """Run the jobs; yields them as they end.

    Raises:
        MissingDependencyError: submitit is not installed.
        UserInputError: Slurm is not here.
    """
    try:
        import submitit
    except ImportError:
        raise MissingDependencyError(
            "hydra/launcher=lqmf_slurm needs submitit, which is not installed",
            hint=install_line("slurm"),
        ) from None
    if not jobs:
        return
    folder = jobs[0].sweep_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
    except RuntimeError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserInputError(
            f"Slurm cannot be used here: {error}",
            hint="run the sweep where sbatch is, or hydra/launcher=lqmf_ray",
        ) from None
    executor.update_parameters(**_parameters(settings))
    tell(f"{len(jobs)} jobs with {settings.num_cpus} cores each on {settings.cluster}")
    try:
        ready = with_cores(jobs, settings.num_cpus, share=settings.share_cores)
        yield from _run(submitit, executor, ready, settings, tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the jobs in it may hold keys of endpoints


def _run(
    submitit: Any, executor: Any, jobs: Sequence[Job], settings: SlurmSettings, tell: Tell
) -> Iterator[tuple[Job, Outcome]]:
    # A job that is submitted from within a job would take that one's number for its own.
    clean = submitit.helpers.clean_env
    at_once = _at_once(settings) or len(jobs)
    with clean(), executor.batch():  # one array of Slurm
        handles = [executor.submit(run, job) for job in jobs[:at_once]]
    waiting = {handle: (job, 0) for handle, job in zip(handles, jobs, strict=False)}
    rest = deque((job, 0) for job in jobs[at_once:])
    try:
        while waiting:
            done = next(
                submitit.helpers.as_completed(list(waiting), poll_frequency=_POLL_S[settings.cluster])
            )
            job, tries = waiting.pop(done)
            outcome = _outcome(submitit, done, job, settings)
            if outcome is not None:
                yield job, outcome
            elif tries < settings.retries:
                tell(f"{job.name} was lost with its node or process; it is run again")
                rest.appendleft((job, tries + 1))
            else:
                yield job, Outcome(1, (f"error: {job.name}: it was lost {tries + 1} times",))
            if rest:
                job, tries = rest.popleft()
                with clean():
                    waiting[executor.submit(run, job)] = job, tries
    except BaseException:
        for handle in waiting:
            handle.cancel()
        raise


def _outcome(submitit: Any, handle: Any, job: Job, settings: SlurmSettings) -> Outcome | None:
    """How a job ended; None where its node or its process is gone."""
    try:
        outcome: Outcome = handle.result()
    except submitit.core.utils.UncompletedJobError as error:
        said = str(error)
        if any(words in said for words in _TIMED_OUT):
            why = f"it was ended after hydra.launcher.timeout_min={settings.timeout_min} minutes"
        elif isinstance(error, submitit.core.utils.FailedJobError):
            why = _cause(said)
        else:
            return None
        return Outcome(1, (f"error: {job.name}: {why}",))
    return outcome


def _at_once(settings: SlurmSettings) -> int | None:
    """Jobs that are submitted at once: on this machine as many as have cores, to Slurm all, which has a queue."""
    if settings.cluster == "slurm" or settings.share_cores:
        return None
    return max(1, len(os.sched_getaffinity(0)) // settings.num_cpus)


def _parameters(settings: SlurmSettings) -> dict[str, Any]:
    """The settings in the words of submitit."""
    parameters: dict[str, Any] = {
        "timeout_min": settings.timeout_min,
        "cpus_per_task": settings.num_cpus,
        "gpus_per_node": settings.num_gpus,
        "name": "lqmf",
    }
    if settings.memory_mb is not None:
        parameters["mem_gb"] = settings.memory_mb / 1e3
    if settings.cluster == "slurm":
        if settings.partition is not None:
            parameters["slurm_partition"] = settings.partition
        if settings.options:
            parameters["slurm_additional_parameters"] = dict(
                option.split("=", 1) for option in settings.options
            )
        if settings.setup:
            parameters["slurm_setup"] = list(settings.setup)
    return parameters


def _cause(said: str) -> str:
    """The last line of the trace that submitit shows between two lines of dashes."""
    trace = said.split("\n----------------------\n")
    lines = [line for line in trace[min(1, len(trace) - 1)].splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it failed without a word"

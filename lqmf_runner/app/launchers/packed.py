"""`python -m lqmf_runner.app.launchers.packed < job`: the process of one job of a sweep."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from omegaconf import read_write

from ...errors import INTERRUPTED
from .. import hydra as edge
from ..cli import end_like_ctrl_c
from ..terminal import report
from .cores import keep_to_cores
from .job import Job


def main() -> int:
    """Run the job on stdin; returns the program's exit code."""
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    logging.raiseExceptions = False
    job: Job = pickle.load(sys.stdin.buffer)
    try:
        keep_to_cores(job.num_cpus, share=job.share_cores, number=job.number)
        return _run(job)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # the launcher passes on what `report` writes, and nothing else
        return report(error, job=job.name)


def _run(job: Job) -> int:
    edge.register_schemas()
    setup_globals()
    context, config, state = pickle.loads(job.composed)
    Singleton.set_state(state)
    sys.argv = [sys.argv[0], *job.argv]
    edge.BeforeRun.typed = job.typed
    edge.BeforeRun.sends = False  # the launcher sends what the job leaves
    with read_write(config.hydra):
        config.hydra.sweep.dir = str(job.sweep_dir)
    Path(job.sweep_dir).mkdir(parents=True, exist_ok=True)
    done = run_job(
        hydra_context=context,
        task_function=edge.run_job,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    try:
        done.return_value  # noqa: B018 (raises what the job raised)
    except edge.JobError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m lqmf_runner.tracking <run folder>`: send a run to MLflow, now or again; `--runs N` prints past ones."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from ..config import TrackingConfig
from ..errors import LqmfError, TrackingError
from ..redaction import redact_text
from . import EXPERIMENT_VARIABLE, TIMEOUT_S, URI_VARIABLE


def _quiet_environment() -> None:
    """Bounded waits, no log noise, and no usage statistics sent anywhere. What the user has set stays."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # MLflow imports it where it is installed, and it fetches a list
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def main() -> int:
    """Send a run and print its MLflow id; returns the exit code."""
    default = TrackingConfig()
    parser = argparse.ArgumentParser(
        prog="python -m lqmf_runner.tracking", description="Send a run's folder to MLflow."
    )
    parser.add_argument("folder", type=Path, nargs="?", help="outputs/<date>/<time>-<mode>")
    parser.add_argument("--runs", type=int, metavar="N", help="print the newest N runs as JSON instead")
    parser.add_argument(
        "--uri",
        default=os.environ.get(URI_VARIABLE, default.uri),
        help=f"default: {URI_VARIABLE}, else {default.uri}",
    )
    parser.add_argument(
        "--artifacts", default=default.artifacts, help="folder of the artifacts of a local store"
    )
    parser.add_argument("--experiment", default=os.environ.get(EXPERIMENT_VARIABLE, default.experiment))
    parser.add_argument(
        "--fetch", metavar="RUN_ID", help="bring the results of a run back into the folder instead"
    )
    parser.add_argument("--timeout", type=int, default=TIMEOUT_S, metavar="SECONDS")
    args = parser.parse_args()
    if (args.folder is None) == (args.runs is None):
        parser.error("give a run's folder, or --runs")
    config = TrackingConfig(True, args.uri, args.artifacts, args.experiment)

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise TrackingError(f"{redact_text(args.uri)} did not answer in {args.timeout} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(args.timeout)
    _quiet_environment()
    from .mlflow_session import is_session, send_session
    from .mlflow_store import fetch_folder, read_past_runs, send_folder

    try:
        if args.runs is not None:
            print(msgspec.json.encode(read_past_runs(config, args.runs)).decode())
            return 0
        if args.fetch:
            fetch_folder(args.fetch, config, args.folder)
            return 0
        send = send_session if is_session(args.folder) else send_folder
        run_id = send(args.folder, config)
    except LqmfError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"error: {type(error).__name__}: {redact_text(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    print(f"MLflow run {run_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m lqmf_runner.tracking <folder>`: send a run to MLflow, now or again; `--runs N` prints past ones.

A folder of runs, such as `outputs`, stands for the runs in it that are not in MLflow.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from ..config import TrackingConfig
from ..errors import LqmfError, TrackingError, UserInputError
from ..redaction import redact_text
from ..results.files import RESULTS
from . import EXPERIMENT_VARIABLE, TIMEOUT_S, URI_VARIABLE, Say
from .versions import AliasChange


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
    """Send runs and print their MLflow ids; returns the exit code."""
    args = _parse()
    config = TrackingConfig(True, args.uri, args.artifacts, args.experiment)

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise TrackingError(f"{redact_text(args.uri)} did not answer in {args.timeout} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(args.timeout)
    _quiet_environment()
    try:
        if args.runs is not None:
            from .mlflow_store import read_past_runs

            print(msgspec.json.encode(read_past_runs(config, args.runs)).decode())
        elif args.view:
            from .reader import save_view

            print(f"your runs, with their figures: {save_view(config)}")
        elif args.fetch:
            from .mlflow_store import fetch_folder

            fetch_folder(args.fetch, config, args.folders[0])
        elif args.versions:
            from .model_registry import list_versions

            print(msgspec.json.encode(list_versions(config)).decode())
        elif args.alias is not None:
            from .model_registry import apply_change

            change = msgspec.json.decode(args.alias, type=AliasChange)
            print(msgspec.json.encode(apply_change(config, change)).decode())
        else:
            _send_all(args.folders, config, args.timeout)
    except LqmfError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"error: {type(error).__name__}: {redact_text(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    default = TrackingConfig()
    parser = argparse.ArgumentParser(
        prog="python -m lqmf_runner.tracking", description="Send a run's folder to MLflow."
    )
    parser.add_argument(
        "folders", metavar="folder", type=Path, nargs="*",
        help="outputs/<date>/<time>-<mode>; or a folder of runs, for those of them that are not in MLflow yet",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, metavar="N", help="print the newest N runs as JSON instead")
    parser.add_argument("--view", action="store_true", help="print the link to the runs in MLflow instead")
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
    parser.add_argument(
        "--versions", action="store_true", help="print all versions of weights as JSON instead"
    )
    parser.add_argument("--alias", metavar="JSON", help="put an alias on a version instead, or take it away")
    parser.add_argument(
        "--timeout",
        type=int,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help="for each folder; default: %(default)s",
    )
    args = parser.parse_args()
    asked = (bool(args.folders), args.runs is not None, args.versions, args.alias is not None, args.view)
    if sum(asked) != 1:
        parser.error("give a run's folder, or one of --runs, --versions, --alias and --view")
    return args


def _send_all(folders: Sequence[Path], config: TrackingConfig, timeout_s: int) -> None:
    """Send the folders, or what is unsent in a folder of runs. Each has the whole time.

    Raises:
        UserInputError: a folder holds no run; the others were sent.
        TrackingError: a run could not be sent; those after it were not tried.
    """
    refused: UserInputError | None = None
    for folder in folders:
        for run in _runs_in(folder, config):
            signal.alarm(timeout_s)
            try:
                run_id = _sender(run)(run, config, _note)
            except UserInputError as error:
                refused = error
                continue
            print(f"MLflow run {run_id}", flush=True)
    if refused is not None:
        raise refused


def _runs_in(folder: Path, config: TrackingConfig) -> Sequence[Path]:
    """The folder; of a sweep its unsent jobs too; of a folder that has runs and is none, those that are unsent."""
    from .mlflow_session import is_session
    from .unsent import find_unsent

    if is_session(folder) or not any(folder.glob("*/*")):
        return [folder]
    unsent = find_unsent(folder, config)
    return [*(run for run in unsent if run != folder), folder] if (folder / RESULTS).exists() else unsent


def _note(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)


def _sender(folder: Path) -> Callable[[Path, TrackingConfig, Say], str]:
    from .mlflow_session import is_session, send_session
    from .mlflow_store import send_folder

    return send_session if is_session(folder) else send_folder


if __name__ == "__main__":
    sys.exit(main())

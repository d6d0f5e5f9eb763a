"""Tracking: a run's folder becomes MLflow runs; and a twin that does nothing.

The folder is complete before anything is sent, so that a server that is down, refuses or hangs costs only the sending:
`python -m lqmf_runner.tracking <run folder>` does it later. MLflow is imported in a child process with a deadline;
the process that measures never holds it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from .config import TrackingConfig
from .errors import LqmfError, TrackingError
from .experiments.results import ModelResult, Results, read_results, write_results
from .reports.figures import load_key

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT_S = 60
URI_VARIABLE = "MLFLOW_TRACKING_URI"
REDACTED = "***"
_SECRET_KEY = re.compile(r"(key|token|secret|password|passwd|credential)s?$", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s?#]*@")
_URL_SECRET = re.compile(r"([?&][^=&\s]*(?:key|token|secret|password)=)[^&\s]+", re.IGNORECASE)
_PARAM_LENGTH, _TAG_LENGTH, _KEY_LENGTH, _BATCH = 6000, 5000, 250, 100
_UNSENDABLE = ("._*", "*.part")


class Tracker(Protocol):
    """Where runs are kept for comparison."""

    def send(self, folder: Path) -> str | None:
        """Send a finished run's folder; returns the id it got, and writes it to the folder's results.json.

        Raises:
            TrackingError: it could not be sent. The folder is as it was.
        """


class NullTracker:
    """Keeps nothing."""

    def send(self, folder: Path) -> None:
        """Do nothing."""


class MlflowTracker:
    """MLflow: a SQLite file, a folder of artifacts beside it, or a server."""

    def __init__(self, config: TrackingConfig, *, timeout_s: int = TIMEOUT_S) -> None:
        self._config = config
        self._timeout_s = timeout_s

    def send(self, folder: Path) -> str:
        """Send in a child process; see `Tracker.send`."""
        config = self._config
        command = [
            sys.executable, "-m", __name__ if __name__ != "__main__" else "lqmf_runner.tracking", str(folder),
            "--artifacts", config.artifacts, "--experiment", config.experiment, "--timeout", str(self._timeout_s),
        ]  # fmt: skip
        package_root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
        # The URI may hold a password, and a command line is there for everyone to see.
        environment = {**os.environ, URI_VARIABLE: config.uri, "PYTHONPATH": path}
        try:
            child = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=self._timeout_s + 10,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TrackingError(f"{redact_text(config.uri)} did not answer in {self._timeout_s} s") from None
        except OSError as error:
            raise TrackingError(f"the sender could not be started: {error}") from None
        if child.returncode != 0:
            lines = [line for line in child.stderr.splitlines() if line.startswith("error: ")]
            raise TrackingError((lines or ["error: the sender failed"])[-1].removeprefix("error: "))
        return child.stdout.split()[-1]


def create_tracker(config: TrackingConfig) -> Tracker:
    """The tracker that the configuration asks for."""
    return MlflowTracker(config) if config.enabled else NullTracker()


def send_later_command(folder: Path, config: TrackingConfig) -> str:
    """The command that sends a run's folder; a password in the URI is not shown."""
    relative = os.path.relpath(folder)
    words = ["python", "-m", "lqmf_runner.tracking", str(folder) if relative.startswith("..") else relative]
    default = TrackingConfig()
    for option, value, usual in (
        ("--uri", redact_text(config.uri), default.uri),
        ("--artifacts", config.artifacts, default.artifacts),
        ("--experiment", config.experiment, default.experiment),
    ):
        if value != usual:
            words += [option, value]
    return shlex.join(words)


def redact(value: Any, key: str = "") -> Any:
    """A copy in which secrets are `***`: strings under keys like `api_key`, and logins within URLs."""
    if isinstance(value, Mapping):
        return {name: redact(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, key) for inner in value]
    if isinstance(value, str) and value:
        return REDACTED if _SECRET_KEY.search(key) else redact_text(value)
    return value


def redact_text(text: str) -> str:
    """The text without logins and tokens in its URLs."""
    return _URL_SECRET.sub(rf"\1{REDACTED}", _URL_LOGIN.sub(f"{REDACTED}@", text))


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings under dotted names; lists are leaves."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def run_params(config: Mapping[str, Any]) -> dict[str, str]:
    """The resolved configuration as MLflow params: flat, secrets redacted, within MLflow's limits."""
    params = {}
    for name, value in flatten(redact(config)):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        params[re.sub(r"[^\w\-. :/]", "_", name)[:_KEY_LENGTH]] = shorten(text, _PARAM_LENGTH)
    return params


def model_metrics(model: ModelResult) -> dict[str, float]:
    """All numbers of a model under their MLflow names, e.g. `c8/ttft_s.p50`, `quality/heuristic.score`."""
    plain: dict[str, Any] = msgspec.to_builtins(model)
    found: dict[str, float] = {}

    def add(values: Mapping[str, Any], prefix: str = "") -> None:
        for name, value in flatten(values):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[prefix + name] = float(value)

    add({name: value for name, value in plain.items() if name not in ("loads", "memory", "quality")})
    for group in ("memory", "quality"):
        add(plain[group] or {}, f"{group}/")
    for load, values in zip(model.loads, plain["loads"], strict=True):
        values.pop("shape")
        add(values, f"{load_key(load.shape)}/")
    return found


def shorten(text: str, length: int) -> str:
    """The text, cut to at most `length` characters with a mark that says so."""
    return text if len(text) <= length else text[: length - 1] + "…"


def send_folder(folder: Path, config: TrackingConfig) -> str:
    """Send a run's folder from this process; returns the id of its MLflow run. A folder sent before stays as it is.

    Raises:
        UserInputError: the folder holds no results.
        TrackingError: MLflow refused, or cannot be reached.
    """
    results = read_results(folder)
    if config.uri.startswith("sqlite:///") and not config.uri.endswith(":memory:"):
        Path(config.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrackingError(f"MLflow cannot be imported: {error}", hint="pip install mlflow") from None
    client = MlflowClient(tracking_uri=config.uri)
    sender = _Sender(client, folder, results)
    try:
        if results.run.mlflow_run_id and sender.is_sent(results.run.mlflow_run_id):
            return results.run.mlflow_run_id
        return sender.send(_experiment(client, config))
    except MlflowException as error:
        why = redact_text(" ".join(str(error).split()))
        raise TrackingError(shorten(f"MLflow at {redact_text(config.uri)}: {why}", 400)) from error


class _Sender:
    """Makes the MLflow runs of one folder; on a failure those already made are deleted again."""

    def __init__(self, client: MlflowClient, folder: Path, results: Results) -> None:
        self._client = client
        self._folder = folder
        self._results = results
        self._made: list[str] = []
        run = results.run
        self._start = _milliseconds(run.started_at)
        self._end = _milliseconds(run.finished_at or run.started_at)
        self._status = (
            "FINISHED" if run.status == "complete" else "KILLED" if run.reason == "interrupted" else "FAILED"
        )
        self._tags = {
            "mode": run.mode,
            "status": run.status,
            "lqmf.run_id": run.id,
            "command": redact_text(run.command),
        }
        if run.git_commit:
            self._tags["mlflow.source.git.commit"] = run.git_commit

    def is_sent(self, run_id: str) -> bool:
        """Whether the store has this run already, from this folder."""
        from mlflow.exceptions import MlflowException

        try:
            tags = self._client.get_run(run_id).data.tags
        except MlflowException:
            return False
        return bool(tags.get("lqmf.run_id") == self._results.run.id)

    def send(self, experiment: str) -> str:
        """Make the run, and a child for each model if there are several."""
        results, models = self._results, self._results.models
        params = run_params(_read_config(self._folder))
        before = results.run.mlflow_run_id
        try:
            only = models[0] if len(models) == 1 else None
            top = self._make(experiment, results.run.name, params, only, parent=self._sweep(experiment))
            if only is None:
                shared = {
                    k: v for k, v in params.items() if not k.startswith(("model.", "models", "backend."))
                }
                for model in models:
                    self._end_run(self._make(experiment, model.name, shared, model, parent=top))
            results.run.mlflow_run_id = top
            write_results(results, self._folder)
            for entry in sorted(self._folder.iterdir()):
                if any(entry.match(pattern) for pattern in _UNSENDABLE):
                    continue
                if entry.is_dir():
                    self._client.log_artifacts(top, str(entry), entry.name)
                else:
                    self._client.log_artifact(top, str(entry))
            self._end_run(top)
        except BaseException:
            self._undo(before)
            raise
        return top

    def _make(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, str],
        model: ModelResult | None,
        *,
        parent: str | None,
    ) -> str:
        tags = {**self._tags, "model": name}
        params = dict(params)
        if model is not None:
            known = {
                "format": model.format,
                "bits": model.bits,
                "version": model.version,
                "method": model.method,
            }
            tags |= {key: str(value) for key, value in known.items() if value is not None}
            params["model.name"] = model.name
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        tags = {key: shorten(value, _TAG_LENGTH) for key, value in tags.items()}
        run = self._client.create_run(
            experiment, start_time=self._start, tags=tags, run_name=shorten(name, 200)
        )
        run_id: str = run.info.run_id
        self._made.append(run_id)
        self._log(run_id, params, model_metrics(model) if model is not None else {})
        return run_id

    def _log(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        bandwidth = self._results.system.memory_bandwidth_gb_s
        measured = [*metrics.items(), *([("system/memory_bandwidth_gb_s", bandwidth)] if bandwidth else [])]
        entities = [Param(key, value) for key, value in params.items()]
        numbers = [Metric(key, value, self._end, 0) for key, value in measured]
        for start in range(0, max(len(entities), len(numbers)), _BATCH):
            end = start + _BATCH
            self._client.log_batch(run_id, params=entities[start:end], metrics=numbers[start:end])

    def _sweep(self, experiment: str) -> str | None:
        """The parent run of the sweep that this run is one job of; made by the first job that comes by."""
        sweep = self._results.run.sweep
        if sweep is None:
            return None
        found = self._client.search_runs(
            [experiment], f"tags.`lqmf.sweep` = '{sweep.replace(chr(39), '')}'", max_results=1
        )
        if found:
            return str(found[0].info.run_id)
        tags = {"mode": self._results.run.mode, "lqmf.sweep": sweep.replace("'", "")}
        run = self._client.create_run(
            experiment, start_time=self._start, tags=tags, run_name=f"sweep {sweep}"
        )
        self._client.set_terminated(run.info.run_id, "FINISHED", self._end)
        return str(run.info.run_id)

    def _end_run(self, run_id: str) -> None:
        self._client.set_terminated(run_id, self._status, self._end)

    def _undo(self, run_id_before: str | None) -> None:
        from mlflow.exceptions import MlflowException

        if self._results.run.mlflow_run_id != run_id_before:
            self._results.run.mlflow_run_id = run_id_before
            write_results(self._results, self._folder)
        for run_id in self._made:
            try:
                self._client.delete_run(run_id)
            except MlflowException:
                return  # the store is gone; nothing more can be done there


def _experiment(client: MlflowClient, config: TrackingConfig) -> str:
    """Id of the experiment. A local store keeps its artifacts where the configuration says, a server where it likes."""
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return str(found.experiment_id)
    remote = config.uri.startswith(("http://", "https://", "databricks"))
    location = None if remote else Path(config.artifacts).resolve().as_uri()
    return str(client.create_experiment(config.experiment, artifact_location=location))


def _read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration that was saved with the run; empty if there is none."""
    try:
        config = json.loads((folder / ".hydra" / "resolved.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def _quiet_environment() -> None:
    """Bounded waits, no log noise, and no usage statistics sent anywhere. What the user has set stays."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def main() -> int:
    """`python -m lqmf_runner.tracking <run folder>`: send a run; prints its MLflow id. Returns the exit code."""
    default = TrackingConfig()
    parser = argparse.ArgumentParser(
        prog="python -m lqmf_runner.tracking", description="Send a run's folder to MLflow."
    )
    parser.add_argument("folder", type=Path, help="outputs/<date>/<time>-<mode>")
    parser.add_argument(
        "--uri",
        default=os.environ.get(URI_VARIABLE, default.uri),
        help=f"default: {URI_VARIABLE}, else {default.uri}",
    )
    parser.add_argument(
        "--artifacts", default=default.artifacts, help="folder of the artifacts of a local store"
    )
    parser.add_argument("--experiment", default=default.experiment)
    parser.add_argument("--timeout", type=int, default=TIMEOUT_S, metavar="SECONDS")
    args = parser.parse_args()

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise TrackingError(f"{redact_text(args.uri)} did not answer in {args.timeout} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(args.timeout)
    _quiet_environment()
    try:
        run_id = send_folder(args.folder, TrackingConfig(True, args.uri, args.artifacts, args.experiment))
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

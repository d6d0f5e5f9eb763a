"""Sending a run's folder to MLflow, and reading runs back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import TrackingConfig
from ..errors import UserInputError
from ..redaction import redact_text
from ..reports.document import summary_document
from ..reports.figures import format_name
from ..reports.in_short import in_short
from ..reports.markdown import render_markdown
from ..results.files import REQUESTS, RESULTS, encode_results, read_config, read_results, write_results
from ..results.history import PastRun
from ..results.logs.system_log import read_system_log
from ..results.schema import ModelResult, Results
from ..results.served import SERVED
from ..results.times import to_ms
from . import Say, say_nothing
from .artifacts import ARTIFACTS_TAG, artifact_note
from .mlflow_connection import connected, experiment_id, find_experiment, import_client, unless_deleted
from .model_registry import register_model
from .reader import read_runs
from .session import WEIGHTS_NAME
from .store_lock import locked_store
from .values import (
    ROLE,
    ROLE_GROUP,
    ROLE_MODEL,
    TAG_LENGTH,
    conditions_digest,
    model_metrics,
    prompts_dataset,
    prompts_name,
    run_params,
    shorten,
    system_digest,
    system_params,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = 100


def send_folder(folder: Path, config: TrackingConfig, say: Say = say_nothing) -> str:
    """Send a run's folder from this process; returns the id of its MLflow run. A folder sent before stays as it is.

    Raises:
        UserInputError: the folder holds no results.
        TrackingError: MLflow refused, or cannot be reached.
    """
    results = read_results(folder)
    import_client()  # it takes seconds; others need not wait meanwhile
    # Jobs of a sweep may end at the same time: one makes the store and the parent run, the others find them.
    with locked_store(config, folder.parent), connected(config) as client:
        sender = _Sender(client, folder, results)
        if results.run.mlflow_run_id and sender.is_sent(results.run.mlflow_run_id):
            return results.run.mlflow_run_id
        experiment = experiment_id(client, config)
        if note := artifact_note(client, config, experiment):
            say(note)
        return sender.send(experiment, {ARTIFACTS_TAG: note} if note else {})


def read_past_runs(config: TrackingConfig, most: int) -> list[PastRun]:
    """The newest runs of models, from this process.

    Raises:
        TrackingError: MLflow refused, or cannot be reached.
    """
    with connected(config) as client:
        return list(read_runs(client, config, most))


def fetch_folder(run_id: str, config: TrackingConfig, target: Path) -> None:
    """Bring the results of a run back into a folder. Of a run that is one model of several, that model's.

    Of a server's session it is what versions behind one name have served, and their weights.

    Raises:
        UserInputError: there is no such run, or more than one whose id begins so, or it holds no results.
        TrackingError: MLflow cannot be reached.
    """
    with connected(config) as client:
        run = _find_run(client, config, run_id)
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        holder, model = run.info.run_id, None
        if RESULTS not in files and "mlflow.parentRunId" in run.data.tags:
            holder, model = run.data.tags["mlflow.parentRunId"], run.data.tags.get("model")
            files = {file.path for file in client.list_artifacts(holder)}
        served = {name for name in files if name.startswith(SERVED)}
        if RESULTS not in files and not served:
            raise UserInputError(
                f"the MLflow run {run_id} holds no results.json", hint="was it made by this program?"
            )
        for name in files & {RESULTS, REQUESTS, ".hydra", WEIGHTS_NAME} | served:
            client.download_artifacts(holder, name, str(target))
    if model is not None:
        results = read_results(target)
        results.models = [known for known in results.models if known.name == model]
        write_results(results, target)


def _find_run(client: MlflowClient, config: TrackingConfig, run_id: str) -> Run:
    """The run whose id begins so: the terminal shows the first characters."""
    experiment = find_experiment(client, config)
    runs = client.search_runs([experiment], max_results=10_000) if experiment else []
    found = [run for run in runs if run.info.run_id.startswith(run_id)]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise UserInputError(
            f"MLflow has {what} whose id begins with {run_id}",
            hint="see the ids with make ui, or name a run's folder",
        )
    return found[0]


class _Sender:
    """Makes the MLflow runs of one folder; on a failure those already made are deleted again.

    The folder gets to know the run's id when all is sent: what a sender that was killed has left, the next deletes.
    """

    def __init__(self, client: MlflowClient, folder: Path, results: Results) -> None:
        self._client = client
        self._folder = folder
        self._results = results
        self._made: list[str] = []
        self._measured: list[tuple[str, ModelResult]] = []
        run = results.run
        self._start = to_ms(run.started_at)
        self._end = to_ms(run.finished_at or run.started_at)
        self._status = (
            "FINISHED" if run.status == "complete" else "KILLED" if run.reason == "interrupted" else "FAILED"
        )
        self._tags = {
            "mode": run.mode,
            "status": run.status,
            "lqmf.run_id": run.id,
            "command": redact_text(run.command),
        }
        self._config = read_config(folder)
        self._samples = read_system_log(folder)
        self._setting = {
            "lqmf.system": system_digest(results.system),
            "lqmf.conditions": conditions_digest(self._config, _overrides(folder)),
        }
        if prompts := prompts_name(self._config):
            self._tags["prompts"] = prompts
        if run.sweep and not run.compares:
            self._tags["lqmf.job"] = folder.name
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

    def send(self, experiment: str, tags: Mapping[str, str]) -> str:
        """Make the run, and a child for each model if there are several. All get these tags too."""
        self._tags.update(tags)
        results, models = self._results, self._results.models
        params = run_params(self._config)
        self._delete(experiment, f"tags.`lqmf.run_id` = '{results.run.id}'")
        try:
            only = models[0] if len(models) == 1 and not results.run.compares else None
            sweep = self._sweep(experiment)
            if sweep is not None and results.run.compares:
                top = sweep  # the sweep's own table and verdict
                for key, text in {**self._conclusion(None), **tags}.items():
                    self._client.set_tag(top, key, text)
            else:
                top = self._make(experiment, results.run.name, params, only, parent=sweep)
            if only is None and not results.run.compares:  # otherwise MLflow keeps their old state
                shared = {
                    k: v for k, v in params.items() if not k.startswith(("model.", "models", "backend."))
                }
                for model in models:
                    self._end_run(self._make(experiment, model.name, shared, model, parent=top))
            results.run.mlflow_run_id = top
            self._log_files(top)
            self._end_run(top)
            # An MLflow client repeats a request without an answer, so the server may have made two runs.
            self._delete(experiment, f"tags.`lqmf.run_id` = '{results.run.id}'", but=self._made)
            write_results(results, self._folder)
        except BaseException:
            self._undo()
            raise
        if sweep is not None and top != sweep:
            parent = self._one_parent(experiment)
            if parent != sweep:
                self._client.set_tag(top, "mlflow.parentRunId", parent)
            self._supersede(experiment, parent, top)
        self._register()
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
        tags = {**self._tags, **self._setting, "model": name, ROLE: ROLE_MODEL if model else ROLE_GROUP}
        params = dict(params)
        if model is not None:
            known = {
                "format": model.format,
                "bits": model.bits,
                "version": model.version,
                "method": model.method,
                "device": model.device,
            }
            tags |= {key: str(value) for key, value in known.items() if value is not None}
            params["model.name"] = model.name
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        tags = {key: shorten(value, TAG_LENGTH) for key, value in tags.items()} | self._conclusion(model)
        run = self._client.create_run(
            experiment, start_time=self._start, tags=tags, run_name=shorten(self._title(name, model), 200)
        )
        run_id: str = run.info.run_id
        self._made.append(run_id)
        metrics = model_metrics(model) if model is not None else {}
        self._log(run_id, params | system_params(self._results.system), metrics)
        self._log_samples(run_id, model)
        self._log_prompts(run_id)
        if model is not None:
            self._measured.append((run_id, model))
        return run_id

    def _title(self, name: str, model: ModelResult | None) -> str:
        """The name of the run in lists: "benchmark smollm2 GGUF Q4_1"."""
        return " ".join([self._results.run.mode, name, *([format_name(model)] if model else [])])

    def _conclusion(self, model: ModelResult | None) -> dict[str, str]:
        """The tags of the result: the table as the description, and of several models the verdict."""
        short = in_short(self._results, model)
        tags = {"mlflow.note.content": short + render_markdown(summary_document(self._results, model))}
        if model is None and self._results.verdict is not None:
            tags["verdict"] = self._results.verdict.headline
        return {key: shorten(value, TAG_LENGTH) for key, value in tags.items()}

    def _log(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        entities = [Param(key, value) for key, value in params.items()]
        numbers = [Metric(key, value, self._end, 0) for key, value in metrics.items()]
        for start in range(0, max(len(entities), len(numbers)), _BATCH):
            end = start + _BATCH
            self._client.log_batch(run_id, params=entities[start:end], metrics=numbers[start:end])

    def _log_samples(self, run_id: str, model: ModelResult | None) -> None:
        """What the machine was doing, as MLflow's system metrics; of one model, while that was measured."""
        from mlflow.entities import Metric

        samples = [sample for sample in self._samples if model is None or sample.model == model.name]
        numbers = [
            Metric(f"system/{key}", value, sample.time, step)
            for step, sample in enumerate(samples)
            for key, value in sample.metrics.items()
        ]
        for start in range(0, len(numbers), _BATCH):
            self._client.log_batch(run_id, metrics=numbers[start : start + _BATCH])

    def _log_prompts(self, run_id: str) -> None:
        """The prompt set as a dataset of the run, by which runs can be found and distinguished."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        if fields := prompts_dataset(self._config):
            context = InputTag("mlflow.data.context", self._results.run.mode)
            inputs = [DatasetInput(Dataset(**fields), [context])]
            try:
                self._client.log_inputs(run_id, inputs)
            except MlflowException:  # another process made the same dataset at this moment; now it is found
                self._client.log_inputs(run_id, inputs)

    def _log_files(self, run_id: str) -> None:
        """The files of the folder; `results.json` with the run's id, which the folder does not have yet."""
        for entry in sorted(self._folder.iterdir()):
            if (entry / RESULTS).exists():
                continue  # a job of a sweep, which is in MLflow as a run of its own
            if entry.is_dir():
                self._client.log_artifacts(run_id, str(entry), entry.name)
            elif entry.name == RESULTS:
                self._client.log_text(run_id, encode_results(self._results).decode(), entry.name)
            else:
                self._client.log_artifact(run_id, str(entry))

    def _register(self) -> None:
        """Update the registry. The run is complete by now: a server without a registry is not an error."""
        from mlflow.exceptions import MlflowException

        try:
            for run_id, model in self._measured:
                if model.error is None:
                    register_model(self._client, run_id, model, self._setting)
        except MlflowException:
            return

    def _sweep(self, experiment: str) -> str | None:
        """The parent run of this job's sweep, made by the first job."""
        if self._results.run.sweep is None:
            return None
        if self._parents(experiment):
            return self._one_parent(experiment)
        sweep = _quotable(self._results.run.sweep)
        tags = {"mode": self._results.run.mode, "lqmf.sweep": sweep, ROLE: ROLE_GROUP}
        run = self._client.create_run(
            experiment, start_time=self._start, tags=tags, run_name=f"sweep {sweep}"
        )
        with unless_deleted(self._client, run.info.run_id):
            self._client.set_terminated(run.info.run_id, "FINISHED", self._end)
        return self._one_parent(experiment)

    def _parents(self, experiment: str) -> list[str]:
        """The runs that are parents of this job's sweep, the one to keep first."""
        sweep = _quotable(self._results.run.sweep or "")
        return sorted(
            str(run.info.run_id)
            for run in self._client.search_runs([experiment], f"tags.`lqmf.sweep` = '{sweep}'")
        )

    def _one_parent(self, experiment: str) -> str:
        """Of several parents of this job's sweep keep the first, which gets the children of the others.

        MLflow does not keep names unique, so that jobs that end together on several machines may make a parent each.
        Every job looks again when it has been sent. The last one then sees them all. Two may delete the same one.
        """
        keep, *others = self._parents(experiment)
        for other in others:
            for run in self._client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{other}'"):
                self._client.set_tag(run.info.run_id, "mlflow.parentRunId", keep)
            with unless_deleted(self._client, other):
                self._client.delete_run(other)
        return keep

    def _supersede(self, experiment: str, sweep: str, top: str) -> None:
        """Delete the run of an earlier attempt of this job."""
        job = _quotable(self._folder.name)
        earlier = self._client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{sweep}' and tags.`lqmf.job` = '{job}'"
        )
        for run_id in (run.info.run_id for run in earlier if run.info.run_id != top):
            self._delete(experiment, f"tags.`mlflow.parentRunId` = '{run_id}'")
            self._client.delete_run(run_id)

    def _end_run(self, run_id: str) -> None:
        self._client.set_terminated(run_id, self._status, self._end)

    def _delete(self, experiment: str, which: str, *, but: Sequence[str] = ()) -> None:
        """MLflow hides runs that are deleted, and can restore them."""
        for run in self._client.search_runs([experiment], which):
            if run.info.run_id not in but:
                self._client.delete_run(run.info.run_id)

    def _undo(self) -> None:
        from mlflow.exceptions import MlflowException

        for run_id in self._made:
            try:
                self._client.delete_run(run_id)
            except MlflowException:
                return  # the store is gone; nothing more can be done there


def _quotable(text: str) -> str:
    """The text for a filter of MLflow, which has no escapes."""
    return text.replace("'", "")


def _overrides(folder: Path) -> list[str]:
    """What the command line has set; empty if Hydra has not saved it."""
    try:
        return msgspec.yaml.decode((folder / ".hydra" / "overrides.yaml").read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError):
        return []

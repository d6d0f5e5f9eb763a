"""Finished runs, read from their folders: their models side by side, and what differs between the runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ..errors import UserInputError
from .files import RESULTS, read_config, read_results
from .schema import ModelResult, Results


@dataclass(frozen=True)
class FinishedRun:
    """A run's results, its resolved configuration (empty if it was not saved), and a short name."""

    label: str
    results: Results
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    """Something that differs between runs. `invalidates`: figures measured under it cannot be compared."""

    what: str
    values: tuple[str, ...]
    invalidates: bool = False

    @property
    def text(self) -> str:
        """ "the prompts differ: general; code"."""
        return f"the {self.what} differ: {'; '.join(self.values)}"


def read_finished(folder: Path) -> list[FinishedRun]:
    """The run in a folder; of a sweep's folder, its jobs.

    Raises:
        UserInputError: there are no results.
    """
    jobs = sweep_jobs(folder)
    if not jobs:
        return [FinishedRun(folder.name, read_results(folder), read_config(folder))]
    labels = _job_labels(jobs)
    return [
        FinishedRun(label, read_results(job), read_config(job))
        for job, label in zip(jobs, labels, strict=True)
        if (job / RESULTS).exists()
    ]


def sweep_jobs(folder: Path) -> list[Path]:
    """Folders of the jobs of a sweep, in order; none if the folder is not a sweep's."""
    if not (folder / "multirun.yaml").exists():
        return []
    found = [path for path in folder.iterdir() if (path / ".hydra" / "overrides.yaml").exists()]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def gather(runs: Sequence[FinishedRun]) -> list[list[ModelResult]]:
    """The models of each run, as copies with unique names.

    A name that occurs twice gets the label of its run. If that is not unique either, it gets the date and the time of
    the run's start.
    """
    names = [[model.name for model in run.results.models] for run in runs]
    starts = [run.results.run.started_at for run in runs]
    for marks in ([run.label for run in runs], [at[:10] for at in starts], [at[11:19] for at in starts]):
        doubled = _doubled(names)
        names = [
            [f"{name} {mark}" if mark and name in doubled else name for name in own]
            for own, mark in zip(names, marks, strict=True)
        ]
    if doubled := _doubled(names):
        raise UserInputError(f"{doubled[0]} is there twice", hint="name each run once")
    return [
        [
            msgspec.structs.replace(model, name=name)
            for model, name in zip(run.results.models, own, strict=True)
        ]
        for run, own in zip(runs, names, strict=True)
    ]


def _doubled(names: Sequence[Sequence[str]]) -> list[str]:
    return [name for name, n in Counter(name for own in names for name in own).items() if n > 1]


def contrasts(runs: Sequence[FinishedRun]) -> list[Contrast]:
    """The differences between the runs besides the models and their backends."""
    found = []
    facets: tuple[tuple[str, Callable[[FinishedRun], Any], bool], ...] = (
        ("prompts", _prompts, True),
        ("sampling settings", _sampling, True),
        ("references", _reference, all(map(_reference, runs))),
        ("judges", _judge, False),
        ("loads", _loads, False),
        ("machines", _machine, False),
        ("package versions", lambda run: run.results.system.packages, False),
    )
    for what, value_of, invalidates in facets:
        values = [value_of(run) for run in runs]
        if any(value != values[0] for value in values):
            shown = tuple(dict.fromkeys(_shown(value, values) for value in values))
            found.append(Contrast(what, shown, invalidates))
    return found


def _prompts(run: FinishedRun) -> Any:
    """The prompt set; of a batch, what it read instead."""
    mode = run.config.get("mode") or {}
    if mode.get("name") == "batch":
        return {name: mode.get(name) for name in ("input", "prompt_field", "system")}
    return run.config.get("prompts") or {}


def _sampling(run: FinishedRun) -> Any:
    return (run.config.get("mode") or {}).get("sampling") or {}


def _reference(run: FinishedRun) -> Any:
    """The reference and the text of the fidelity measurement; empty if there was none."""
    found = next((model.quality.reference for model in run.results.models if model.quality.reference), None)
    if found is None:
        return {}
    return {name: getattr(found, name) for name in ("name", "version", "text", "text_digest", "tokens")}


def _judge(run: FinishedRun) -> Any:
    """The judge, its rubric, and its opponent; empty if there was none."""
    found = next((model.quality.judge for model in run.results.models if model.quality.judge), None)
    if found is None:
        return {}
    who = {name: getattr(found, name) for name in ("model", "version", "rubric", "rubric_digest")}
    return who | {"against": found.pairs.against if found.pairs else None}


def _loads(run: FinishedRun) -> Any:
    mode = run.config.get("mode") or {}
    names = ("requests", "duration_s", "warmup", "seed", "synthetic")
    return {name: mode[name] for name in names if name in mode}


def _machine(run: FinishedRun) -> Any:
    system = run.results.system
    gpus = [gpu.name for gpu in system.gpus]
    return {"cpu": system.cpu, "cores": system.cores, "ram": round(system.ram_mb / 1e3), "gpus": gpus}


def _shown(value: Any, values: Sequence[Any]) -> str:
    """A value in short form; of mappings only the entries that differ."""
    if not isinstance(value, Mapping):
        return str(value)
    if not value:
        return "none"
    if "entries" in value:
        return f"{value.get('name')} ({len(value['entries'])})"
    parts = []
    for key, part in value.items():
        if any(not isinstance(other, Mapping) or other.get(key) != part for other in values):
            parts.append(f"{key} {part}")
    return ", ".join(parts)


def _job_labels(jobs: Sequence[Path]) -> list[str]:
    """The settings of each job of a sweep that not all jobs share, without the model's name: "n_ctx=512"."""
    settings = [yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text("utf-8")) or [] for job in jobs]
    return [
        " ".join(
            f"{key.rpartition('.')[2]}={_unescaped(value)}"
            for key, _, value in (setting.partition("=") for setting in own)
            if key != "model" and not all(f"{key}={value}" in other for other in settings)
        )
        for own in settings
    ]


def _unescaped(value: str) -> str:
    """A value as the user wrote it: Hydra keeps it with the escapes of its grammar."""
    return re.sub(r"\\(.)", r"\1", value)

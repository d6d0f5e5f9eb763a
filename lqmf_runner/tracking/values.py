"""A run in MLflow's terms: flat params and metrics within its limits, and no secrets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..config import ModeConfig, RunConfig
from ..formats import find_format
from ..redaction import redact
from ..results.flat import flatten
from ..results.metrics import GROUPS
from ..results.schema import ModelResult, SystemInfo

ROLE, ROLE_MODEL, ROLE_GROUP = "lqmf.role", "model", "group"
PARAM_LENGTH, TAG_LENGTH, NAME_LENGTH = 6000, 5000, 250
_ALWAYS = {"model.name", "mode.name", "prompts.name", "backend.format", "reference"}
_NO_CONDITIONS = {"concurrency", "rate", "ramp", "heuristic", "repeats", "interleave", "tasks", "promote"}
_APART = {"cache_dir", "decisions", "decision_set"}  # the other figures of fidelity do not depend on them


def run_params(config: Mapping[str, Any]) -> dict[str, str]:
    """What is not as usual in the resolved configuration, and what was run, as MLflow params.

    They are flat, within MLflow's limits, and without secrets. The whole configuration is among the run's files, and
    its prompts are the run's dataset. Of a run of several models the model that `model=` would have picked was none.
    """
    params = {}
    usual = _usual(config)
    several = bool(config.get("models") or config.get("runs"))
    for name, value in flatten(redact(config)):
        if several and (name.startswith("model.") or name == "backend.format"):
            continue
        if name not in _ALWAYS and (name == "prompts.entries" or usual.get(name, ...) == value):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        params[re.sub(r"[^\w\-. :/]", "_", name)[:NAME_LENGTH]] = shorten(text, PARAM_LENGTH)
    return params


def _usual(config: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the schemas of this mode and format, under the names of params."""
    usual = dict(flatten(dataclasses.asdict(RunConfig())))
    mode = next((m for m in _modes() if m.name == (config.get("mode") or {}).get("name")), None)
    format = find_format(str((config.get("backend") or {}).get("format")))
    for group, schema in (("mode", mode), ("backend", format.backend if format else None)):
        if schema is not None:
            usual |= flatten(dataclasses.asdict(schema()), f"{group}.")
    return usual


def _modes(parent: type[ModeConfig] = ModeConfig) -> Iterator[type[ModeConfig]]:
    for schema in parent.__subclasses__():
        yield schema
        yield from _modes(schema)


def model_metrics(model: ModelResult) -> dict[str, float]:
    """All numbers of a model under their MLflow names, e.g. `c8/ttft_s.p50`, `quality/heuristic.score`."""
    plain: dict[str, Any] = msgspec.to_builtins(model)
    found: dict[str, float] = {}

    def add(values: Mapping[str, Any], prefix: str = "") -> None:
        for name, value in flatten(values):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[prefix + name] = float(value)

    add({name: value for name, value in plain.items() if name not in ("loads", *GROUPS)})
    for group in GROUPS:
        add(plain[group] or {}, f"{group}/")
    for load, values in zip(model.loads, plain["loads"], strict=True):
        values.pop("shape")
        add(values, f"{load.shape.key}/")
    return found


def system_params(system: SystemInfo) -> dict[str, str]:
    """The machine, as params for filters and groups."""
    known = {
        "cpu": system.cpu,
        "cores": system.cores,
        "ram_mb": system.ram_mb,
        "gpus": ", ".join(gpu.name for gpu in system.gpus) or "none",
        "memory_bandwidth_gb_s": system.memory_bandwidth_gb_s,
    }
    return {f"system.{name}": str(value) for name, value in known.items() if value is not None}


def system_digest(system: SystemInfo) -> str:
    """Equal for runs on machines that are as fast as each other, as far as is known. Package versions may differ."""
    return _digest([system.cpu, system.cores, round(system.ram_mb / 1e3), [gpu.name for gpu in system.gpus]])


def conditions_digest(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Equal for runs whose figures can be compared, model by model and load by load.

    That is the prompts, the settings of the mode but for which loads are run and what is reported of them, the
    reference and its text, and what the command line says of the backend.
    """
    mode = {key: value for key, value in (config.get("mode") or {}).items() if key not in _NO_CONDITIONS}
    reference = config.get("reference")
    fidelity = {key: value for key, value in (config.get("fidelity") or {}).items() if key not in _APART}
    backend = sorted(override for override in overrides if override.lstrip("+").startswith("backend"))
    return _digest([config.get("prompts"), mode, backend, [reference, fidelity] if reference else None])


def prompts_name(config: Mapping[str, Any]) -> str | None:
    """Name of the prompt set; of a batch, the name of its file."""
    path = _batch_file(config)
    name = (config.get("prompts") or {}).get("name") if path is None else path.name
    return None if name is None else str(name)


def prompts_dataset(config: Mapping[str, Any]) -> dict[str, str] | None:
    """The prompts as the fields of MLflow's `Dataset`; None if the run had none, or compared finished runs.

    Those of a batch are its file.
    """
    if (path := _batch_file(config)) is not None:
        return _file_dataset(path)
    prompts = config.get("prompts") or {}
    entries = prompts.get("entries")
    if not entries or config.get("runs"):
        return None
    turns = sum(len(entry.get("turns") or [1]) for entry in entries)
    return {
        "name": str(prompts.get("name")),
        "digest": _digest(prompts),
        "source_type": "local",
        "source": json.dumps({"uri": ".hydra/resolved.json"}),
        "schema": json.dumps({"mlflow_colspec": [{"name": "prompt", "type": "string", "required": True}]}),
        "profile": json.dumps({"num_prompts": len(entries), "num_turns": turns}),
    }


def _batch_file(config: Mapping[str, Any]) -> Path | None:
    mode = config.get("mode") or {}
    return Path(mode["input"]).expanduser() if mode.get("name") == "batch" and mode.get("input") else None


def _file_dataset(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:  # it was removed meanwhile
        digest = _digest(str(path))
    return {
        "name": path.name,
        "digest": digest,
        "source_type": "local",
        "source": json.dumps({"uri": str(path)}),
    }


def shorten(text: str, length: int) -> str:
    """The text, cut to at most `length` characters with a mark that says so.

    A NUL, which PostgreSQL does not take, and half a surrogate pair, which nobody does, are replaced.
    """
    text = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= length else text[: length - 1] + "…"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]

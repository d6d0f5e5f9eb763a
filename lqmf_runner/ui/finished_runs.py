"""The runs in the folder of outputs, as the page lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserInputError
from ..results.broken import BUSY_CORES
from ..results.files import RESULTS, read_config, read_results
from ..results.schema import ModelResult, Results

MOST = 100
_ENOUGH = 8  # requests from which on the usual noise of a load holds


@dataclass(frozen=True)
class Run:
    """A run that left results. `id` is its folder, relative to the folder of outputs: "2026-01-31/10-00-00-compare"."""

    id: str
    folder: Path
    results: Results

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration; empty if none was saved."""
        return read_config(self.folder)

    @property
    def prompts(self) -> str:
        """Name of its prompt set."""
        return str((self.config.get("prompts") or {}).get("name") or "")


def list_runs(outputs: Path, *, mode: str | None = None) -> list[Run]:
    """The newest runs, newest first; folders without readable results are passed over."""
    found = []
    for path in sorted(outputs.glob(f"*/*/{RESULTS}"), reverse=True)[:MOST]:
        try:
            results = read_results(path.parent)
        except UserInputError:
            continue
        if mode is None or results.run.mode == mode:
            found.append(Run(path.parent.relative_to(outputs).as_posix(), path.parent, results))
    return found


def find_run(outputs: Path, name: str) -> Run | None:
    """The run with this id, if it is in the folder of outputs."""
    if "\0" in name:
        return None
    folder = (outputs / name).resolve()
    if len(Path(name).parts) != 2 or not folder.is_relative_to(outputs.resolve()):
        return None
    try:
        return Run(name, folder, read_results(folder))
    except UserInputError:
        return None


def measured_kld(outputs: Path) -> dict[str, float]:
    """The newest measured mean KL divergence of each model."""
    found: dict[str, float] = {}
    for run in list_runs(outputs):
        for model in run.results.models:
            kld = model.quality.kld.mean if model.quality.kld else None
            if kld is not None and not model.quality.uncounted:
                found.setdefault(model.name, kld)
    return found


def trust(run: Run) -> str:
    """How far the run's figures can be trusted, in a few words; empty where nothing speaks against them."""
    marks = []
    if run.results.run.status != "complete":
        marks.append(run.results.run.reason or "partial")
    if any(model.error for model in run.results.models):
        marks.append("a model failed")
    others = max((model.other_cores or 0.0 for model in run.results.models), default=0.0)
    marks += [f"other programs used {others:.1f} cores"] if others >= BUSY_CORES else []
    if fewest := min(
        (load.succeeded for model in run.results.models for load in _single_loads(model)), default=0
    ):
        marks += [f"only {fewest} requests a load"] if fewest < _ENOUGH else []
    return ", ".join(marks)


def _single_loads(model: ModelResult) -> list[Any]:
    return [load for load in model.loads if not load.repeats]

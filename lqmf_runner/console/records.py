"""The folders of finished runs: the newest report, and the runs for a recommendation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import LqmfError, UserInputError
from ..results.files import RESULTS, read_results
from ..results.schema import Results

REPORT = "report.md"
MACHINE = "## Run and machine"
"""The heading of its last part."""
_MOST = 200


@dataclass(frozen=True)
class Record:
    """A run that has left results."""

    folder: Path
    results: Results

    @property
    def measured(self) -> list[str]:
        """The models that were measured without an error."""
        return [model.name for model in self.results.models if model.loads and model.error is None]


def records(output_dir: Path) -> Iterator[Record]:
    """The runs of a folder, the newest first. Unreadable ones are skipped."""
    found = {path for depth in ("*", "*/*", "*/*/*") for path in output_dir.glob(f"{depth}/{RESULTS}")}
    dated = sorted(((path.stat().st_mtime, path) for path in found), reverse=True)
    for _, path in dated[:_MOST]:
        try:
            yield Record(path.parent, read_results(path.parent))
        except LqmfError:
            continue


def newest_report(output_dir: Path, model: str | None = None) -> Path:
    """The report of the newest run, of those that have this model in them.

    Raises:
        UserInputError: there is none.
    """
    for record in records(output_dir):
        path = record.folder / REPORT
        if path.exists() and (model is None or any(m.name == model for m in record.results.models)):
            return path
    about = f" about {model}" if model else ""
    raise UserInputError(
        f"there is no report{about} in {output_dir}", hint='say "benchmark <model>" to make one'
    )


def runs_to_recommend_from(output_dir: Path) -> list[str]:
    """The newest comparison of at least two models; if there is none, the newest benchmark of each model.

    Raises:
        UserInputError: fewer than two models were measured.
    """
    newest: dict[str, str] = {}
    for record in records(output_dir):
        if (
            record.results.run.mode == "compare"
            and len(record.measured) > 1
            and not record.results.run.compares
        ):
            return [str(record.folder)]
        if record.results.run.mode == "benchmark":
            for name in record.measured:
                newest.setdefault(name, str(record.folder))
    if len(newest) < 2:
        raise UserInputError(
            "fewer than two models have been measured, so that none can be recommended",
            hint='say "compare <model> and <model>" first',
        )
    return list(dict.fromkeys(newest.values()))

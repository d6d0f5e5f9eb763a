"""The recorder of a run: it assembles the results from the figures that measurements return.

Only the recorder changes `Results` and `ModelResult` while a run measures. It writes `results.json` after each step, so
that a run that fails, is interrupted or is killed keeps what was measured until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from ..models.lineage import read_origins
from ..results.broken import BUSY_CORES, LEAST_HEURISTIC, why_broken
from ..results.files import write_results
from ..results.lineage import why_uncounted
from ..results.quality import Quality
from ..results.schema import ENDED_BY_USER, LoadResult, ModelResult, RampResult, Results
from ..results.times import now
from ..types import MemoryUse, ModelInfo, ModelSpec

log = logging.getLogger(__name__)

_NOT_MEASURED = Quality()


class ModelRecorder:
    """Records the figures of one model.

    Attributes:
        result: what is recorded so far. Read it; change it only by the methods below.
        error: why the model failed; None where it did not, or was interrupted.
    """

    def __init__(self, result: ModelResult, save: Callable[[], None] = lambda: None) -> None:
        self.result = result
        self.error: Exception | None = None
        self._save = save

    @property
    def name(self) -> str:
        """The model's name."""
        return self.result.name

    @property
    def ended_early(self) -> bool:
        """The model failed or was interrupted."""
        return self.result.error is not None

    def located(self, spec: ModelSpec) -> None:
        """The weights were found."""
        self.result.format, self.result.version = spec.format, spec.version or None
        self.result.path = spec.path or None
        self.result.origins = read_origins(spec.path) if spec.path else []

    def loaded(self, info: ModelInfo, spec: ModelSpec, load_time_s: float) -> None:
        """The model is loaded. Of an endpoint little is known: zeros become null."""
        result = self.result
        result.load_time_s = load_time_s
        result.format, result.method, result.device = info.format, info.method or None, info.device or None
        result.bits, result.bits_per_weight = info.bits or None, info.bits_per_weight or None
        result.parameters, result.size_mb = info.parameters or None, info.size_mb or None
        result.version = info.version or spec.version or None
        result.batch_invariant = info.batch_invariant
        result.draft_model = info.draft_model or None
        result.notes = list(info.notes)

    def note(self, text: str) -> None:
        """Add a note for the reader of the results."""
        self.result.notes.append(text)
        self._save()

    def other_work(self, cores: float) -> None:
        """Record the number of cores that other programs used during the loads. Too many become a note."""
        worst = max(cores, self.result.other_cores or 0.0)
        if worst >= BUSY_CORES > (self.result.other_cores or 0.0):
            self.result.notes.append(
                f"other programs used {worst:.1f} of {psutil.cpu_count()} cores during its loads: "
                "its speeds may be too low"
            )
        self.result.other_cores = worst
        self._save()

    def memory(self, use: MemoryUse) -> None:
        """Memory of the worker after a load. It is written with the load."""
        self.result.memory = use

    def load(self, load: LoadResult, quality: Quality) -> None:
        """A load, and the quality of all answers so far. A load of the same shape is replaced."""
        self.result.loads = list(
            ({known.shape: known for known in self.result.loads} | {load.shape: load}).values()
        )
        self.quality(quality)

    def ramp(self, ramp: RampResult) -> None:
        """Record the outcome of the ramp so far."""
        self.result.ramp = ramp
        self._save()

    def quality(self, found: Quality) -> None:
        """Take over all figures of `found` that were measured; the others do not change."""
        measured = {
            name: value
            for name, value in msgspec.structs.asdict(found).items()
            if value != getattr(_NOT_MEASURED, name)
        }
        self.result.quality = msgspec.structs.replace(self.result.quality, **measured)
        self._save()

    def fidelity(self, found: Quality) -> None:
        """Record the comparison with the reference. If it is impossible or does not count, add a note."""
        reference, model = found.reference, self.result
        broken, uncounted = why_broken(found), None
        if reference is not None:
            uncounted = why_uncounted(
                model.version, model.origins, reference.name, reference.version, reference.origins
            )
        if broken:
            model.notes.append(broken)
        if uncounted:
            model.notes.append(f"its fidelity does not count: {uncounted}")
        self.quality(msgspec.structs.replace(found, broken=broken, uncounted=uncounted))

    def answers_measured(self) -> None:
        """All answers are recorded. If they look broken, add a note, once."""
        heuristic, text = (
            self.result.quality.heuristic,
            f"its answers look broken (heuristic below {LEAST_HEURISTIC:g})",
        )
        if heuristic is not None and heuristic.score < LEAST_HEURISTIC and text not in self.result.notes:
            self.note(text)

    def failed(self, error: Exception) -> None:
        """The model's run ended early with an error. Earlier measurements are kept."""
        self.error = error
        self.result.error = f"{type(error).__name__}: {error}"
        self._save()

    def interrupted(self) -> None:
        """The user ended the model's run early. Earlier measurements are kept."""
        self.result.error = ENDED_BY_USER


class RunRecorder:
    """Records a run in its folder.

    Attributes:
        results: what is recorded so far. Read it; change it only by the methods below.
    """

    def __init__(self, results: Results, folder: Path) -> None:
        self.results = results
        self.models: list[ModelRecorder] = []
        self._folder = folder

    @property
    def errors(self) -> list[Exception]:
        """Why models failed, in their order."""
        return [model.error for model in self.models if model.error is not None]

    def memory_bandwidth(self, gb_s: float | None) -> None:
        """The measured memory bandwidth of the machine in 10^9 bytes/s. None if it could not be measured."""
        self.results.system.memory_bandwidth_gb_s = gb_s

    def model(self, name: str) -> ModelRecorder:
        """Begin a model and add it to the results."""
        model = ModelRecorder(ModelResult(name=name), self.save)
        self.results.models.append(model.result)
        self.models.append(model)
        return model

    def refused(self, why: str) -> None:
        """Nothing can be measured: the run ends before its first model."""
        self.results.run.reason, self.results.run.finished_at = why, now()
        self.save()

    def measured(self, problem: OSError | None = None) -> None:
        """All models have been run. The run is partial if one failed, or if `requests.jsonl` could not be written."""
        failed = [f"{model.name}: {model.error}" for model in self.results.models if model.error]
        unwritten = f"requests.jsonl could not be written: {problem}" if problem else None
        self.results.run.reason = "; ".join(failed) or unwritten

    def interrupted(self) -> None:
        """The user ended the run early."""
        self.results.run.reason, self.results.run.finished_at = ENDED_BY_USER, now()
        self.save()

    def save(self) -> None:
        """Write `results.json`. If the disk fails, the next step and the end of the run try again."""
        try:
            write_results(self.results, self._folder)
        except OSError as error:
            log.debug("results.json not written yet: %s", error)

"""mode=compare: which of these models should I run? A benchmark of each, fidelity to a reference, and a verdict.

Every model gets the same prompts, in a worker process of its own, one after the other. One that fails is reported, and
the verdict is drawn over those that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..experiments.benchmark import LoadEngine
from ..experiments.conclusion import draw_verdict
from ..experiments.results import Results
from . import benchmark

if TYPE_CHECKING:
    from . import RunContext


def run(context: RunContext) -> int:
    """Compare the chosen models and return the exit code.

    Raises:
        UserInputError: there is nothing to run.
        LqmfError: the only model could not be run.
    """
    from ..engine import load_engine

    return run_with(context, locate=benchmark.locate_model, load=load_engine)


def run_with(context: RunContext, *, locate: benchmark.Locate, load: LoadEngine) -> int:
    """The same with the given ways to find a model and to load it."""
    config = context.config

    def conclude(results: Results) -> None:
        results.verdict = draw_verdict(results.models, config.verdict, reference=config.reference)

    return benchmark.run_with(context, locate=locate, load=load, conclude=conclude)

"""The settings of mode=benchmark and mode=compare."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from .checks import alias_name, at_least, one_of, within
from .modes import ModeConfig
from .prompts import SamplingConfig
from .texts import FilePath, Name


@dataclass(frozen=True)
class ObjectivesConfig:
    """Service levels of goodput, in seconds: a request is good when it meets all that are given."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            if (bound := getattr(self, f.name)) is not None:
                within(f"mode.objectives.{f.name}", bound, 0)


@dataclass(frozen=True)
class RampConfig:
    """Increasing request rates, until the engine no longer sustains one.

    Attributes:
        start: the first rate, in requests per second; null is no ramp.
        factor: ratio of each rate to the one before.
        max_rate: the highest rate to try.
        step_s: least duration of a step, in seconds; low rates take longer, so that enough requests arrive.
        refine: number of rates to try between the highest sustained one and the lowest one that was not.
    """

    start: float | None = None
    factor: float = 1.5
    max_rate: float = 64.0
    step_s: float = 10.0
    refine: int = 2


@dataclass(frozen=True)
class SyntheticConfig:
    """Requests with given lengths in tokens, in place of the prompt set.

    With `_std`, lengths are drawn from a normal distribution.

    Attributes:
        prompt_tokens: exact length as the model counts it; null uses the prompt set.
        output_tokens: exact length of every answer, also past an end-of-sequence token; null is
            `mode.sampling.max_tokens`.
    """

    prompt_tokens: int | None = None
    prompt_tokens_std: float = 0.0
    output_tokens: int | None = None
    output_tokens_std: float = 0.0


@dataclass(frozen=True)
class BenchmarkMode(ModeConfig):
    """Loads over the prompt set: closed loops, then open loops, then a ramp.

    Attributes:
        concurrency: one closed loop for each number of concurrent requests.
        rate: one open loop for each number of requests per second.
        arrival: arrival process of the open loops: "poisson", "constant" (evenly spaced) or "burst".
        burst: requests that arrive together in a burst.
        ramp: search for the highest rate that the engine sustains.
        requests: requests in each load; null is the larger of 16 and twice the concurrency, or the larger of 16 and
            10 seconds' worth of an open loop.
        duration_s: duration of each load in seconds, in place of `requests`. Requests in progress at its end are
            waited for.
        repeats: number of runs of each load, for confidence intervals.
        interleave: the models take turns of one repeat each, so that a drift of the machine's speed affects all of
            them equally. The weights are loaded for each turn.
        warmup: requests before the measurement, not counted.
        seed: seed of arrivals and synthetic requests.
        heuristic: report the heuristic quality of the answers.
        tasks: tasks whose accuracy is measured after the loads: names from lm-evaluation-harness, or YAML files.
        tasks_limit: documents of each task; null is all.
        objectives: service levels that goodput is reported for.
    """

    name: str = "benchmark"
    concurrency: list[int] = field(default_factory=lambda: [1, 4, 8])
    rate: list[float] = field(default_factory=list)
    arrival: str = "poisson"
    burst: int = 8
    ramp: RampConfig = field(default_factory=RampConfig)
    requests: int | None = None
    duration_s: float | None = None
    repeats: int = 1
    interleave: bool = False
    warmup: int = 2
    seed: int = 0
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    heuristic: bool = True
    tasks: list[FilePath] = field(default_factory=list)
    tasks_limit: int | None = None
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)

    def __post_init__(self) -> None:
        one_of("mode.arrival", self.arrival, ("poisson", "constant", "burst"))
        at_least("mode.burst", self.burst, 1)
        if self.tasks_limit is not None:
            at_least("mode.tasks_limit", self.tasks_limit, 1)


@dataclass(frozen=True)
class CompareMode(BenchmarkMode):
    """The loads of a benchmark for each of `models`, their fidelity to `reference`, and a verdict.

    With `runs` nothing is measured: the verdict is over the results of finished runs. Nor is anything with `served`:
    the verdict is over the versions of a model that share the requests for its name, by what they have served.

    Attributes:
        allow_different: compare finished runs although their prompts or sampling differ; the report says so.
        served: the name whose versions are judged, in the servers that run here, or in those of `runs`: folders of
            servers, or the ids of their runs in MLflow.
        promote: give the winner this alias in MLflow's registry, "champion", if it beats the version that has it by
            more than noise. "chat@champion" makes the winner a version of the name "chat", whatever it is called.
    """

    name: str = "compare"
    allow_different: bool = False
    served: Name | None = None
    promote: Name | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        alias_name("mode.promote", self.promote and self.promote.rpartition("@")[2])

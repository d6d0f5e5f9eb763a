"""What a benchmark does with each model: the loads, and the requests they are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..config import BenchmarkMode, PromptsConfig, RampConfig, SyntheticConfig
from ..engine.client import EngineClient
from ..errors import UserInputError
from ..types import SamplingParams
from .metrics import Objectives
from .open_loop import OpenLoop
from .ramp import Ramp
from .run import ClosedLoop, Conversation, check_prompts, prompt_conversations
from .synthetic import Length, Synthetic

_LEAST_REQUESTS = 16
_RATE_S = 10  # seconds of an open loop, unless told
_POOL = 256  # synthetic requests of a load that has a duration, as a ramp's have; they are then sent again


@dataclass(frozen=True)
class PlannedLoad:
    """One load: its shape, and how many requests; None for a load that has a duration."""

    shape: ClosedLoop | OpenLoop
    requests: int | None


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to do with each model; see `config.BenchmarkMode`.

    Raises:
        UserInputError: there is nothing to run, or a number is out of range.
    """

    prompts: PromptsConfig
    sampling: SamplingParams
    concurrency: tuple[int, ...]
    rate: tuple[float, ...] = ()
    arrival: str = "poisson"
    burst: int = 8
    ramp: RampConfig = field(default_factory=RampConfig)
    requests: int | None = None
    duration_s: float | None = None
    repeats: int = 1
    interleave: bool = False
    warmup: int = 2
    seed: int = 0
    synthetic: Synthetic | None = None
    heuristic: bool = True
    similarity: bool = True
    tasks: tuple[str, ...] = ()
    tasks_limit: int | None = None
    objectives: Objectives = field(default_factory=Objectives)

    def __post_init__(self) -> None:
        check_prompts(self.prompts)
        if not self.concurrency and not self.rate and self.ramp.start is None:
            raise UserInputError(
                "mode.concurrency is empty, and there is no other load",
                hint="give it numbers, e.g. mode.concurrency=[1,4,8], or mode.rate=[2], or mode.ramp.start=1",
            )
        for name, value, low in (
            ("concurrency", min(self.concurrency, default=1), 1),
            ("requests", self.requests if self.requests is not None else 1, 1),
            ("repeats", self.repeats, 1),
            ("warmup", self.warmup, 0),
        ):
            if value < low:
                raise UserInputError(f"mode.{name}={value} is too small", hint=f"it must be at least {low}")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise UserInputError(
                f"mode.duration_s={self.duration_s:g} is not valid", hint="it is a time, more than 0 s"
            )
        if self.interleave and self.repeats < 2:
            raise UserInputError(
                "mode.interleave=true has nothing to interleave", hint="repeat the loads: mode.repeats=3"
            )
        if self.duration_s is not None and self.requests is not None:
            raise UserInputError(
                "mode.duration_s and mode.requests contradict each other", hint="give one of them"
            )
        for name, values in (("concurrency", self.concurrency), ("rate", self.rate)):
            if len(set(values)) < len(values):
                raise UserInputError(
                    f"mode.{name}={list(values)} names a load twice", hint="give each number once"
                )
        list(self.loads())  # each shape checks its own numbers
        self.new_ramp()

    @classmethod
    def of(cls, mode: BenchmarkMode, prompts: PromptsConfig, *, similarity: bool = True) -> BenchmarkPlan:
        """The plan of a mode's settings."""
        return cls(
            prompts=prompts,
            sampling=mode.sampling.params,
            concurrency=tuple(mode.concurrency),
            rate=tuple(mode.rate),
            arrival=mode.arrival,
            burst=mode.burst,
            ramp=mode.ramp,
            requests=mode.requests,
            duration_s=mode.duration_s,
            repeats=mode.repeats,
            interleave=mode.interleave,
            warmup=mode.warmup,
            seed=mode.seed,
            synthetic=_synthetic(mode.synthetic, mode.sampling.max_tokens, mode.seed),
            heuristic=mode.heuristic,
            similarity=similarity,
            tasks=tuple(mode.tasks),
            tasks_limit=mode.tasks_limit,
            objectives=Objectives(**dataclasses.asdict(mode.objectives)),
        )

    def loads(self, repeat: int = 0) -> Iterator[PlannedLoad]:
        """The loads in order, without the ramp. Each repeat of an open loop has arrivals of its own."""
        for users in self.concurrency:
            yield self._planned(ClosedLoop(users, self.duration_s), 2 * users)
        for rate in self.rate:
            loop = OpenLoop(rate, self.arrival, self.burst, self.seed + repeat, self.duration_s)
            yield self._planned(loop, math.ceil(_RATE_S * rate))

    @property
    def references(self) -> dict[tuple[str, int], str]:
        """Reference answers by prompt id and turn, that is the last of a conversation; synthetic prompts have none."""
        if not self.similarity or self.synthetic is not None:
            return {}
        return {
            (entry.id, max(len(entry.turns), 1) - 1): entry.reference
            for entry in self.prompts.entries
            if entry.reference is not None
        }

    def new_ramp(self) -> Ramp | None:
        """The ramp to run after the loads, if any."""
        return None if self.ramp.start is None else Ramp(**dataclasses.asdict(self.ramp))

    async def conversations(self, client: EngineClient) -> list[Conversation]:
        """What is sent, over and over again: the prompt set, or synthetic requests.

        Raises:
            UserInputError: no such synthetic requests can be made.
        """
        if self.synthetic is None:
            return prompt_conversations(self.prompts)
        planned = [load.requests or _POOL for load in self.loads()]
        if self.ramp.start is not None:
            planned.append(_POOL)
        return await self.synthetic.conversations(client, max(planned))

    def _planned(self, shape: ClosedLoop | OpenLoop, usual: int) -> PlannedLoad:
        if self.duration_s is not None:
            return PlannedLoad(shape, None)
        return PlannedLoad(shape, self.requests or max(_LEAST_REQUESTS, usual))


def _synthetic(config: SyntheticConfig, max_tokens: int, seed: int) -> Synthetic | None:
    if config.prompt_tokens is None:
        if config.output_tokens is not None:
            raise UserInputError(
                "mode.synthetic.output_tokens is given without prompt_tokens",
                hint="add mode.synthetic.prompt_tokens; for the prompt set, mode.sampling.max_tokens with "
                "mode.sampling.ignore_eos=true gives answers of one length",
            )
        return None
    output = max_tokens if config.output_tokens is None else config.output_tokens
    return Synthetic(
        Length(config.prompt_tokens, config.prompt_tokens_std), Length(output, config.output_tokens_std), seed
    )

"""The plan of a benchmark for each model: the loads and their requests."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..config import BenchmarkMode, PromptsConfig, RunConfig
from ..config.checks import at_least
from ..engine.client import EngineClient
from ..errors import UserInputError
from ..types import SamplingParams
from .closed_loop import ClosedLoop
from .conversations import Conversation, check_prompts, prompt_conversations
from .metrics import Objectives
from .open_loop import OpenLoop
from .ramp import Ramp
from .synthetic import Length, Synthetic

_LEAST_REQUESTS = 16
_RATE_S = 10  # seconds of an open loop, by default
_POOL = 256  # synthetic requests of a load that has a duration, as a ramp's have; they are then sent again


@dataclass(frozen=True)
class PlannedLoad:
    """One load: its shape, and how many requests; None for a load that has a duration."""

    shape: ClosedLoop | OpenLoop
    requests: int | None


@dataclass(frozen=True)
class BenchmarkPlan:
    """The plan for each model: the settings of the mode, the prompts, and derived values.

    Attributes:
        similarity: hold answers against the reference answers of the prompt set.

    Raises:
        UserInputError: there is nothing to run, or a number is out of range.
    """

    mode: BenchmarkMode
    prompts: PromptsConfig
    similarity: bool = True

    def __post_init__(self) -> None:
        mode = self.mode
        check_prompts(self.prompts)
        if not mode.concurrency and not mode.rate and mode.ramp.start is None:
            raise UserInputError(
                "mode.concurrency is empty, and there is no other load",
                hint="give it numbers, e.g. mode.concurrency=[1,4,8], or mode.rate=[2], or mode.ramp.start=1",
            )
        for name, value, low in (
            ("concurrency", min(mode.concurrency, default=1), 1),
            ("requests", mode.requests if mode.requests is not None else 1, 1),
            ("repeats", mode.repeats, 1),
            ("warmup", mode.warmup, 0),
        ):
            at_least(f"mode.{name}", value, low)
        if mode.duration_s is not None and not 0 < mode.duration_s < math.inf:
            raise UserInputError(
                f"mode.duration_s={mode.duration_s:g} is not valid", hint="it is a time, more than 0 s"
            )
        if mode.interleave and mode.repeats < 2:
            raise UserInputError(
                "mode.interleave=true has nothing to interleave", hint="repeat the loads: mode.repeats=3"
            )
        if mode.duration_s is not None and mode.requests is not None:
            raise UserInputError(
                "mode.duration_s and mode.requests contradict each other", hint="give one of them"
            )
        for name, values in (("concurrency", mode.concurrency), ("rate", mode.rate)):
            if len(set(values)) < len(values):
                raise UserInputError(
                    f"mode.{name}={list(values)} names a load twice", hint="give each number once"
                )
        list(self.loads())  # each shape checks its own numbers
        self.new_ramp()
        _ = self.synthetic

    @classmethod
    def of(cls, config: RunConfig) -> BenchmarkPlan:
        """The plan of one model's configuration. Its mode is a benchmark or a comparison.

        Raises:
            UserInputError: there is nothing to run, or a number is out of range.
        """
        assert isinstance(config.mode, BenchmarkMode)
        return cls(config.mode, config.prompts, similarity=config.similarity.enabled)

    @cached_property
    def sampling(self) -> SamplingParams:
        """Of the requests."""
        return self.mode.sampling.params

    @cached_property
    def objectives(self) -> Objectives:
        """Of goodput."""
        return Objectives(**dataclasses.asdict(self.mode.objectives))

    @cached_property
    def synthetic(self) -> Synthetic | None:
        """The synthetic requests that replace the prompt set, if any."""
        mode, lengths = self.mode, self.mode.synthetic
        if lengths.prompt_tokens is None:
            if lengths.output_tokens is not None:
                raise UserInputError(
                    "mode.synthetic.output_tokens is given without prompt_tokens",
                    hint="add mode.synthetic.prompt_tokens; for the prompt set, mode.sampling.max_tokens with "
                    "mode.sampling.ignore_eos=true gives answers of one length",
                )
            return None
        output = mode.sampling.max_tokens if lengths.output_tokens is None else lengths.output_tokens
        return Synthetic(
            Length(lengths.prompt_tokens, lengths.prompt_tokens_std),
            Length(output, lengths.output_tokens_std),
            mode.seed,
        )

    def loads(self, repeat: int = 0) -> Iterator[PlannedLoad]:
        """The loads in order, without the ramp. Each repeat of an open loop has arrivals of its own."""
        mode = self.mode
        for users in mode.concurrency:
            yield self._planned(ClosedLoop(users, mode.duration_s), 2 * users)
        for rate in mode.rate:
            loop = OpenLoop(rate, mode.arrival, mode.burst, mode.seed + repeat, mode.duration_s)
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
        ramp = self.mode.ramp
        return None if ramp.start is None else Ramp(**dataclasses.asdict(ramp))

    async def conversations(self, client: EngineClient) -> list[Conversation]:
        """What is sent, over and over again: the prompt set, or synthetic requests.

        Raises:
            UserInputError: no such synthetic requests can be made.
        """
        if self.synthetic is None:
            return prompt_conversations(self.prompts)
        planned = [load.requests or _POOL for load in self.loads()]
        if self.mode.ramp.start is not None:
            planned.append(_POOL)
        return await self.synthetic.conversations(client, max(planned))

    def _planned(self, shape: ClosedLoop | OpenLoop, usual: int) -> PlannedLoad:
        if self.mode.duration_s is not None:
            return PlannedLoad(shape, None)
        return PlannedLoad(shape, self.mode.requests or max(_LEAST_REQUESTS, usual))

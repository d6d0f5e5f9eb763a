"""What models are asked, and how they choose tokens: the group `prompts`, and the sampling of modes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from ..errors import UserInputError
from ..types import SAMPLING_RANGES, SamplingParams
from .checks import MISSING, within
from .texts import Name, OptionalText, Text

PROMPT_FILES = frozenset({".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".yaml", ".yml"})
"""Suffixes of files that may be a prompt set."""


@dataclass(frozen=True)
class Prompt:
    """One entry of a prompt set: a single user turn (`prompt`) or a scripted conversation (`turns`, user turns only).

    `reference` is an answer a person would accept, optional.
    """

    id: Name = MISSING
    prompt: Text | None = None
    turns: list[Text] = field(default_factory=list)
    reference: OptionalText | None = None

    def __post_init__(self) -> None:
        if self.id != MISSING and (self.prompt is None) == (not self.turns):
            raise UserInputError(
                f"prompt '{self.id}' must have either prompt or turns",
                hint='in YAML a prompt that is the word null needs quotes: prompt: "null"',
            )


@dataclass(frozen=True)
class PromptsConfig:
    """A prompt set: at least one entry, each with an id of its own."""

    name: Name = MISSING
    system: OptionalText | None = None
    entries: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.name == MISSING:
            return
        if not self.entries:
            raise UserInputError(
                f"the prompt set '{self.name}' is empty",
                hint="add entries: [{id: ..., prompt: ...}], or choose another set with prompts=",
            )
        for entry_id, times in Counter(entry.id for entry in self.entries).items():
            if times > 1:
                raise UserInputError(f"the prompt set '{self.name}' has the id '{entry_id}' more than once")


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults for the requests of an experiment; see `types.SamplingParams`.

    Attributes:
        max_tokens: longest answer, in tokens.
        temperature: 0 always takes the likeliest token; higher is more varied.
        top_k: choose among so many of the likeliest tokens; 0 is all.
        top_p: choose among the likeliest tokens that together have this probability.
        min_p: choose among tokens that have at least this share of the likeliest one's probability.
        repetition_penalty: above 1 makes tokens that were used less likely.
        presence_penalty: above 0 makes tokens of the answer less likely, once.
        frequency_penalty: above 0 makes tokens of the answer less likely each time that they come.
        seed: the same seed gives the same answer; null takes another one each time.
        stop: texts that end the answer.
        ignore_eos: go on when the model ends its answer.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = 0
    stop: list[Text] = field(default_factory=list)
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in SAMPLING_RANGES and value is not None:
                within(f"mode.sampling.{f.name}", value, *SAMPLING_RANGES[f.name])

    @property
    def params(self) -> SamplingParams:
        """The same, as requests carry it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return SamplingParams(**{**values, "stop": tuple(self.stop)})

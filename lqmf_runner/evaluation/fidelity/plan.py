"""The plan of a fidelity measurement: the reference model, the text, the prompts, and the place of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ...config import FidelityConfig, PromptsConfig
from ...decisions.sets import DecisionSet, load_decisions
from ...errors import UserInputError
from ...formats import is_remote, numeric_options
from ...models.lineage import read_origins
from ...models.version import tokenizer_version
from ...results.lineage import Origin
from ...types import ModelSpec, SamplingParams
from .evaluation_text import EvaluationText, load_text
from .store import ReferenceKey, ReferenceStore
from .windows import WindowProtocol

# The settings of a backend that change the numbers a model gives.


@dataclass(frozen=True)
class FidelityPlan:
    """What to compare with, on which text, and where the reference's share is kept.

    Attributes:
        tokenizer: digest of the reference's tokenizer and chat template.
        decisions: to ask for; None asks for none.
        origins: what the reference was made from, the nearest first.
        answers: sampling of the answers to the prompts that a judge is to see; None where there is none.
    """

    reference: ModelSpec
    text: EvaluationText
    max_tokens: int
    noise_floor: bool
    divergence_tokens: int
    prompts: PromptsConfig
    store: ReferenceStore
    decisions: DecisionSet | None = None
    answers: SamplingParams | None = None
    protocol: WindowProtocol = field(default_factory=WindowProtocol)
    origins: list[Origin] = field(default_factory=list)
    tokenizer: str = ""

    @classmethod
    def of(
        cls,
        config: FidelityConfig,
        reference: ModelSpec,
        prompts: PromptsConfig,
        output_dir: str,
        answers: SamplingParams | None = None,
    ) -> FidelityPlan:
        """The plan of a configuration.

        Raises:
            UserInputError: the reference is an endpoint, or the text or the decisions cannot be read.
        """
        if is_remote(reference.format):
            raise UserInputError(
                f"the reference '{reference.name}' runs behind an endpoint, which does not give full distributions",
                hint="name a model on this machine: reference=smollm2_bf16",
            )
        options = dict(reference.options)
        if "dtype" in options and options["dtype"] == "auto":
            options["dtype"] = config.dtype
        return cls(
            reference=msgspec.structs.replace(reference, options=options),
            text=load_text(config),
            max_tokens=config.max_tokens,
            noise_floor=config.noise_floor,
            divergence_tokens=config.divergence_tokens,
            prompts=prompts,
            store=ReferenceStore(Path(config.cache_dir or Path(output_dir) / ".fidelity").expanduser()),
            decisions=load_decisions(config.decision_set) if config.decisions else None,
            answers=answers,
            origins=read_origins(reference.path),
            tokenizer=tokenizer_version(reference.path),
        )

    @property
    def key(self) -> ReferenceKey:
        """The key of its distributions in the store."""
        options = self.reference.options
        return ReferenceKey(
            model=self.reference.version,
            tokenizer=self.tokenizer,
            settings={"format": self.reference.format}
            | {k: options[k] for k in numeric_options(self.reference.format) if k in options},
            text=self.text.digest,
            max_tokens=self.max_tokens,
            size=self.protocol.size,
            first=self.protocol.first,
        )

"""How the quality of answers is measured: fidelity to a reference model, reference answers, and a judge model."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserInputError
from .checks import at_least, one_of
from .texts import FilePath, Name, quoted


@dataclass(frozen=True)
class FidelityConfig:
    """How models are compared with the `reference`.

    Attributes:
        enabled: measure it where there is a reference.
        text: a UTF-8 file to measure on; null is the text that ships.
        dataset: a hub data set instead, with its `dataset_config`, `dataset_split` and the column that holds the text.
        max_tokens: at most so many tokens of the text, in windows of 512; half of them are scored.
        dtype: the reference runs in, where its own settings say "auto".
        noise_floor: run the reference in its own dtype too, to tell what arithmetic alone does.
        divergence_tokens: length of the greedy answers that are compared; 0 leaves them out.
        decisions: ask both for typed decisions, and count how many turn out differently.
        decision_set: a YAML file of them; null is the set that ships.
        cache_dir: where the reference's distributions are kept (1.2 GB for a vocabulary of 50,000 and 24,576 tokens);
            null is `.fidelity` in `output_dir`.
    """

    enabled: bool = True
    text: FilePath | None = None
    dataset: Name | None = None
    dataset_config: Name | None = None
    dataset_split: Name = "test"
    dataset_column: Name = "text"
    max_tokens: int = 12288
    dtype: str = "float32"
    noise_floor: bool = True
    divergence_tokens: int = 64
    decisions: bool = True
    decision_set: FilePath | None = None
    cache_dir: FilePath | None = None

    def __post_init__(self) -> None:
        at_least("fidelity.max_tokens", self.max_tokens, 512)
        at_least("fidelity.divergence_tokens", self.divergence_tokens, 0)
        one_of("fidelity.dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))
        if self.text is not None and self.dataset is not None:
            raise UserInputError("fidelity.text and fidelity.dataset are both given", hint="give one of them")


@dataclass(frozen=True)
class GraderConfig:
    """A model that grades the answers of the other models when all have answered.

    Attributes:
        model: name of a model config, also `openai` for an endpoint; null asks none.
        base_url, remote_model: of an endpoint, in place of what its backend config says.
    """

    model: Name | None = None
    base_url: Name | None = None
    remote_model: Name | None = None

    def __post_init__(self) -> None:
        if self.model is None and (self.base_url is not None or self.remote_model is not None):
            raise UserInputError(
                "an endpoint is given for a grader without a model", hint="name one, e.g. judge.model=openai"
            )

    @property
    def overrides(self) -> list[str]:
        """The endpoint as overrides of the model's configuration."""
        given = {"base_url": self.base_url, "remote_model": self.remote_model}
        return [f"backend.{name}={quoted(value)}" for name, value in given.items() if value is not None]


@dataclass(frozen=True)
class SimilarityConfig(GraderConfig):
    """Similarity of answers to the `reference` answers of the prompt set, if it has some.

    Attributes:
        enabled: count shared words.
        model: one that gives embeddings, to compare meanings too.
    """

    enabled: bool = True


@dataclass(frozen=True)
class JudgeConfig(GraderConfig):
    """A model that grades the answers by typed decisions against a rubric.

    Attributes:
        rubric: a YAML file; null is the one that ships.
        score: grade each answer by itself.
        pairwise: compare each answer with another model's, in both orders.
        against: whose answers those are: a model of the run, or the reference; null is the reference, else the first of
            several models.
    """

    rubric: FilePath | None = None
    score: bool = True
    pairwise: bool = True
    against: Name | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and not (self.score or self.pairwise):
            raise UserInputError(
                "judge.score and judge.pairwise are both false",
                hint="leave one of them on, or judge.model out",
            )

"""How answers are graded: by similarity to a reference answer, and by a judge model."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserInputError
from .texts import FilePath, Name, quoted


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

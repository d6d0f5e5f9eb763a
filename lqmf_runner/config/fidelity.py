"""How fidelity to a reference model is measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserInputError
from .checks import at_least, one_of
from .texts import FilePath, Name


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

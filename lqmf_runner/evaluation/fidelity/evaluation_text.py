"""The text that perplexity and KL divergence are taken over: the one that ships, any file, or a hub data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...config import FidelityConfig
from ...errors import MissingDependencyError, UserInputError
from ...install import install_line

SHIPPED = Path(__file__).parent / "texts" / "evaluation.txt"
_CHARACTERS_A_TOKEN = 32  # no tokenizer needs more; the rest is not read


@dataclass(frozen=True)
class EvaluationText:
    """A text and what it is called in results."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """Hex digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def load_text(config: FidelityConfig) -> EvaluationText:
    """The text of a configuration, no more of it than `max_tokens` can need.

    Raises:
        UserInputError: the file cannot be read or is no text, or the data set cannot be fetched or has no such column.
        MissingDependencyError: a data set was asked for and `datasets` is not installed.
    """
    limit = config.max_tokens * _CHARACTERS_A_TOKEN
    if config.dataset is not None:
        return EvaluationText(config.dataset, _read_dataset(config, limit))
    path = SHIPPED if config.text is None else Path(config.text).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(limit)
    except (OSError, ValueError) as error:
        why = "it is not UTF-8 text" if isinstance(error, ValueError) else getattr(error, "strerror", "")
        raise UserInputError(
            f"the evaluation text {path.name} cannot be read: {why}",
            hint="fidelity.text takes a UTF-8 text file; without it the text that ships is used",
        ) from error
    if not text.strip() or "\0" in text:
        raise UserInputError(
            f"the evaluation text {path.name} {'is no text' if text.strip() else 'is empty'}",
            hint="fidelity.text takes a UTF-8 text of 512 tokens or more; without it the text that ships is used",
        )
    return EvaluationText("shipped" if config.text is None else path.name, text)


def _read_dataset(config: FidelityConfig, limit: int) -> str:
    name, column = config.dataset or "", config.dataset_column
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError(
            "hub data sets need a package that is not installed: datasets",
            hint=install_line("datasets"),
        ) from error
    from ...models.hub import hub_status

    status = hub_status(f"datasets/{name}")
    if status != 200:
        why = f"it answers {status}" if isinstance(status, int) else status
        raise UserInputError(
            f"the data set {name} cannot be fetched from the hub ({why})",
            hint="check fidelity.dataset, or give a file with fidelity.text=",
        )
    try:
        rows = load_dataset(name, config.dataset_config, split=config.dataset_split, streaming=True)
        return "\n".join(_until(limit, (str(row[column]) for row in rows)))
    except KeyError:
        raise UserInputError(
            f"the data set {name} has no column {column}", hint="name it with fidelity.dataset_column="
        ) from None
    except Exception as error:  # its own errors, those of the hub and of the file formats
        raise UserInputError(
            f"the data set {name} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            hint="check fidelity.dataset_config and fidelity.dataset_split, or give a file with fidelity.text=",
        ) from error


def _until(limit: int, pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        if limit <= 0:
            return
        yield piece
        limit -= len(piece) + 1

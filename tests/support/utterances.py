"""Reads the sentences of `tests/console/utterances/`, and holds what the console understands against them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lqmf_runner.console.understanding.steps import Step

NAMES = (
    *("llama32_bnb4", "mistral_gptq4", "qwen_bnb4", "qwen_bnb8", "qwen_gguf", "qwen_gptq4", "smollm2_bf16"),
    *("smollm2_bnb4", "smollm2_bnb8", "smollm2_gguf", "smollm2_gptq4", "smollm2_q4_k_m"),
)
"""The models that the sentences are about."""

FOLDER = Path(__file__).parents[1] / "console" / "utterances"
ASKS = "~"
Expected = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Utterance:
    """A sentence and the steps that it asks for; none where it is out of scope."""

    text: str
    steps: tuple[Expected, ...]

    @property
    def intents(self) -> tuple[str, ...]:
        """Of its steps."""
        return tuple(intent for intent, _ in self.steps)

    def matches(self, steps: Sequence[Step]) -> bool:
        """Whether the steps are those, with the same arguments, and nothing else to ask."""
        return tuple(map(_written, steps)) == self.steps and not any(step.others for step in steps)


def utterances(name: str) -> Iterator[Utterance]:
    """The sentences of a file."""
    for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            text, _, steps = line.partition(" => ")
            yield Utterance(text, tuple(_expected(step) for step in steps.split("; ") if step))


def _expected(text: str) -> Expected:
    intent, *arguments = shlex.split(text)
    pairs = (argument.partition("=") for argument in arguments)
    return intent, {name: value for name, _, value in pairs}


def _written(step: Step) -> Expected:
    return step.intent, {name: _value(value) for name, value in step.arguments.items()} | dict.fromkeys(
        step.choices, ASKS
    )


def _value(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

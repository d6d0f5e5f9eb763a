"""What is asked for before a step is done, and what need not be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lqmf_runner.console.questions import among, settle
from lqmf_runner.console.understanding.steps import SURE, Step
from lqmf_runner.console.understanding.understand import Understanding
from tests.support.utterances import NAMES


class Answering:
    """A user who gives these answers, and then none."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[str] = []
        self._answers: Iterator[str] = iter(answers)

    def say(self, text: str, style: str = "") -> None:
        """Nobody looks."""

    def ask(self, question: str) -> str | None:
        """Keep the question."""
        self.asked.append(question)
        return next(self._answers, None)


def _step(sentence: str) -> Step:
    (step,) = Understanding(NAMES).steps(sentence)
    return step


@pytest.mark.parametrize(
    ("sentence", "answer", "argument"),
    [
        ("promote mistral to champion", "candidate", ("version", "candidate")),
        ("scale mistral", "3", ("replicas", "3")),
    ],
)
def test_what_was_not_said_is_asked_for(sentence: str, answer: str, argument: tuple[str, str]) -> None:
    screen = Answering(answer)
    settled = settle(_step(sentence), screen)
    assert settled is not None
    assert argument in settled.arguments.items()
    assert len(screen.asked) == 1
    assert settle(_step(sentence), Answering()) is None


@pytest.mark.parametrize(
    ("sentence", "loaded", "model", "choices"),
    [
        ("unload", ["qwen_gguf"], "qwen_gguf", []),
        ("unload qwen", ["qwen_gguf", "mistral_gptq4"], "qwen_gguf", []),
        ("unload", ["qwen_gguf", "mistral_gptq4"], None, ["mistral_gptq4", "qwen_gguf"]),
    ],
)
def test_only_what_is_loaded_can_be_unloaded(
    sentence: str, loaded: list[str], model: str | None, choices: list[str]
) -> None:
    step = among(_step(sentence), loaded)
    assert step.arguments.get("model") == model
    assert step.choices.get("model", []) == choices
    assert (step.confidence >= SURE) == (model is not None)


def test_a_name_that_fits_nothing_that_is_loaded_stays_unclear() -> None:
    assert among(_step("unload qwen"), ["mistral_gptq4"]) == _step("unload qwen")

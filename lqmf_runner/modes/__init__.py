"""What the program can do: the registry of modes, and what a mode is handed.

A mode is a function `run(context: RunContext) -> int` that returns the exit code. It is imported when it is chosen,
so that a list of modes costs nothing. A new mode is one entry here, one function and one `conf/mode/*.yaml`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..config import RunConfig
from ..runs.context import RunContext


@dataclass(frozen=True)
class Mode:
    """An entry of the registry.

    Attributes:
        target: "module:function" within this package.
        checks: the same of a function that refuses what is wrong in a configuration, before the run has a folder.
    """

    target: str
    summary: str
    example: str
    checks: str | None = None

    def load(self) -> Callable[[RunContext], int]:
        """Import the mode and return its function."""
        return cast(Callable[[RunContext], int], _imported(self.target))

    def check(self, config: RunConfig) -> None:
        """Refuse what is wrong in a configuration.

        Raises:
            UserInputError: something is.
        """
        if self.checks is not None:
            cast(Callable[[RunConfig], None], _imported(self.checks))(config)


def _imported(target: str) -> Any:
    module, function = target.split(":")
    return getattr(importlib.import_module(f".{module}", __name__), function)


MODES: dict[str, Mode] = {
    "serve": Mode(
        "serve:run",
        "serve models over HTTP: OpenAI's API and a native one",
        "mode=serve model=smollm2_gguf server.port=8000",
    ),
    "status": Mode(
        "status:run",
        "show the servers that run",
        "mode=status",
    ),
    "stop": Mode(
        "stop:run",
        "stop a server, once it has finished its requests",
        "mode=stop server.port=8000",
    ),
    "keys": Mode(
        "keys:run",
        "make, remove or list API keys of the server",
        "mode=keys mode.add=alice mode.role=use",
    ),
    "chat": Mode(
        "chat:run",
        "talk to a model in the terminal, or ask it one question",
        'mode=chat model=smollm2_gguf mode.message="Why is the sky blue?"',
    ),
    "batch": Mode(
        "batch:run",
        "answer every line of a file (JSONL, CSV, text, OpenAI batch); run it again to go on",
        "mode=batch model=smollm2_gguf mode.input=questions.txt",
    ),
    "benchmark": Mode(
        "benchmark:run",
        "measure speed, memory and answer quality of a model under load",
        "mode=benchmark model=smollm2_gguf prompts=general",
        checks="benchmark:check",
    ),
    "compare": Mode(
        "compare:run",
        "decide which model to run: speed, memory and fidelity in one table, with a verdict",
        "mode=compare 'models=[smollm2_gguf,smollm2_bnb4]' reference=smollm2_bf16 verdict.max_kld=0.1",
        checks="compare:check",
    ),
    "quantize": Mode(
        "quantize:run",
        "make a bitsandbytes, GPTQ or GGUF model from another one",
        "mode=quantize model=smollm2_bf16 mode.method=bnb mode.bits=4",
        checks="quantize:check",
    ),
    "models": Mode(
        "models:run",
        "list the models there are, and which of them can run",
        "mode=models",
    ),
    "history": Mode(
        "history:run",
        "list past runs: the latest, the best, the trend of a model, and what has become worse",
        "mode=history mode.show=trend mode.model=smollm2_gguf mode.since=7d",
    ),
}

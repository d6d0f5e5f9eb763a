"""Models that SGLang serves, started here."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.texts import Name
from .base import Format
from .program import Program, ProgramBackend


@dataclass(frozen=True)
class SglangBackend(ProgramBackend):
    """`python -m sglang.launch_server`, with its own flags in `flags`."""

    format: str = "sglang"
    command: list[Name] = field(default_factory=lambda: ["python3", "-m", "sglang.launch_server"])


SGLANG = Format(
    name="sglang",
    label="SGLang",
    backend=SglangBackend,
    client="lqmf_runner.engine.program.engine:ProgramEngine",
    program=Program(
        model=("--model-path",),
        context="--context-length",
        slots="--max-running-requests",
        key_file="--config",
        install="pip install sglang",
    ),
    overhead_mb=0.0,
)

"""Models that vLLM serves, started here."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.texts import Name
from .base import Format
from .program import Program, ProgramBackend


@dataclass(frozen=True)
class VllmBackend(ProgramBackend):
    """`vllm serve`, with its own flags in `flags`."""

    format: str = "vllm"
    command: list[Name] = field(default_factory=lambda: ["vllm", "serve"])


VLLM = Format(
    name="vllm",
    label="vLLM",
    backend=VllmBackend,
    client="lqmf_runner.engine.program.engine:ProgramEngine",
    program=Program(
        model=(),
        context="--max-model-len",
        slots="--max-num-seqs",
        key_variable="VLLM_API_KEY",
        install="pip install vllm",
    ),
    overhead_mb=0.0,
)

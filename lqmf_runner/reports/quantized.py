"""What the terminal shows of a model that was quantized."""

from __future__ import annotations

from pathlib import Path

from ..models.quantize import Quantized
from ..output import OutputConsole


def print_quantized(result: Quantized, models_dir: Path) -> None:
    """Where it is, what it is, and what to type next."""
    console = OutputConsole(highlight=False, soft_wrap=True)
    place = models_dir / Path(result.path).name
    console.print(f"{'made' if result.made else 'there already, as asked for:'} {place}", markup=False)
    console.print(result.record.summary(), markup=False)
    name = result.record.name
    console.print(f"next: python -m lqmf_runner mode=benchmark model=local model.name={name}", markup=False)

"""Models in the terminal: the list of them, and one that was quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ...models import FoundModel
from ...models.configured import ConfiguredModel
from ...models.quantize import Quantized
from ...models.roots import shown
from ...output import OutputConsole
from ..columns import Column
from ..tables import fit_tables, print_table, printable

_FOUND: Sequence[Column[FoundModel]] = (
    Column("model", lambda model: model.name, is_number=False),
    Column(
        "status",
        lambda model: "unusable" if model.problem else "ready",
        is_number=False,
        style=lambda model: "red" if model.problem else "green",
    ),
    Column("format", lambda model: model.format, is_number=False),
    Column("method", lambda model: model.method, is_number=False),
    Column("size", lambda model: _size(model.size_mb) if model.size_mb else ""),
    Column("bits/w", lambda model: f"{model.bits_per_weight:.2f}" if model.bits_per_weight else ""),
    Column("params", lambda model: _count(model.parameters) if model.parameters else ""),
    Column("version", lambda model: model.version[:8], is_number=False),
)
_CONFIGURED: Sequence[Column[ConfiguredModel]] = (
    Column("model", lambda model: model.name, is_number=False),
    Column("format", lambda model: model.format, is_number=False),
    Column(
        "weights",
        lambda model: model.status,
        is_number=False,
        style=lambda model: "green" if model.present else "yellow",
    ),
)


def print_found(console: Console, found: list[FoundModel], folders: Sequence[str]) -> None:
    """What lies in the folders of models, what is wrong with it, and how to run one."""
    if not found:
        console.print(
            Text(
                f"There are no models in {shown(folders)} yet; "
                "`make demo-models` makes some, `lqmf pull` fetches one."
            ),
            soft_wrap=True,
        )
        return
    console.print(Text(f"In {shown(folders)}", style="bold"), soft_wrap=True)
    for table in fit_tables(_FOUND, found, console):
        print_table(console, table)
        console.print()
    broken = [model for model in found if model.problem]
    for model in broken:
        reason = Text(f": {printable(model.problem)}")
        console.print(Text(model.name, style="red") + reason, soft_wrap=not console.is_terminal)
    if broken:
        console.print()
    console.print(Text("Run one: lqmf chat <model>", style="dim"))


def print_configured(console: Console, configured: list[ConfiguredModel]) -> None:
    """What the configuration names, and where its weights are."""
    console.print(Text("\nConfigured", style="bold"))
    for table in fit_tables(_CONFIGURED, configured, console):
        print_table(console, table)
        console.print()


def print_quantized(result: Quantized, models_dir: Path) -> None:
    """Where a quantized model is, what it is, and what to type next."""
    console = OutputConsole(highlight=False, soft_wrap=True)
    place = models_dir / Path(result.path).name
    console.print(f"{'made' if result.made else 'there already, as asked for:'} {place}", markup=False)
    console.print(result.record.summary(), markup=False)
    name = result.record.name
    console.print(f"next: lqmf benchmark {name}", markup=False)


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 999.5 else f"{megabytes:.3g} MB"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 999.5e6 else f"{parameters / 1e6:.3g} M"

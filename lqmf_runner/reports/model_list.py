"""The list of models in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..models import FoundModel
from ..models.configured import ConfiguredModel


def print_found(console: Console, found: list[FoundModel], folder: Path) -> None:
    """What lies in the models folder, what is wrong with it, and how to run one."""
    table = _table(f"In {escape(str(folder))}/")
    table.add_column("model", overflow="fold", min_width=17)
    table.add_column("format", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=8)
    for title in ("bits/w", "size", "params"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("version", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for model in found:
        table.add_row(
            escape(model.name),
            model.format,
            model.method,
            f"{model.bits_per_weight:.2f}" if model.bits_per_weight else "",
            _size(model.size_mb) if model.size_mb else "",
            _count(model.parameters) if model.parameters else "",
            model.version[:8],
            "[red]unusable[/red]" if model.problem else "[green]ready[/green]",
        )
    if found:
        console.print(table)
        for model in found:
            if model.problem:
                console.print(f"[red]{escape(model.name)}[/red]: {escape(model.problem)}", soft_wrap=True)
        console.print("\nRun one: mode=chat model=local model.name=<model>", style="dim")
    else:
        console.print(f"There are no models in {escape(str(folder))}/ yet; `make demo-models` makes some.")


def print_configured(console: Console, configured: list[ConfiguredModel]) -> None:
    """What the configuration names, and where its weights are."""
    table = _table("\nConfigured")
    table.add_column("model", no_wrap=True)
    table.add_column("format", no_wrap=True)
    table.add_column("weights", overflow="fold")
    for model in configured:
        color = "green" if model.present else "yellow"
        table.add_row(model.name, model.format, f"[{color}]{escape(model.status)}[/{color}]")
    console.print(table)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 999.5 else f"{megabytes:.3g} MB"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 999.5e6 else f"{parameters / 1e6:.3g} M"

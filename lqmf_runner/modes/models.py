"""mode=models: what lies in the models folder, what the configuration names, and what is wrong with either."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config import ModelsMode, OpenAIBackend, RunConfig
from ..errors import LqmfError
from ..models import FoundModel, discover
from ..output import OutputConsole
from ..runs.context import RunContext


@dataclass(frozen=True)
class ConfiguredModel:
    """An entry of `conf/model/` and whether its weights are on this machine."""

    name: str
    format: str
    present: bool
    status: str


def run(context: RunContext) -> int:
    """List the models as a table, or as JSON with `mode.format=json`."""
    mode = context.config.mode
    assert isinstance(mode, ModelsMode)
    folder = Path(context.config.models_dir)
    found = sorted(discover(folder), key=lambda model: model.name)
    configured = [_configured(context, name) for name in context.model_names if name != "local"]
    if mode.format == "json":
        listing = {
            "models": [msgspec.to_builtins(m) for m in found],
            "configured": [vars(c) for c in configured],
        }
        print(json.dumps(listing, indent=2))
    else:
        console = OutputConsole(highlight=False)
        _print_found(console, found, folder)
        _print_configured(console, configured)
    return 0


def _configured(context: RunContext, name: str) -> ConfiguredModel:
    try:
        config = context.compose(name)
    except LqmfError as error:
        return ConfiguredModel(name, "", False, error.message)
    present, status = _whereabouts(config)
    return ConfiguredModel(name, config.backend.format, present, status)


def _whereabouts(config: RunConfig) -> tuple[bool, str]:
    model = config.model
    if isinstance(config.backend, OpenAIBackend):
        return True, f"remote, {config.backend.base_url}"
    if model.path and (Path(config.models_dir) / model.path).exists():
        return True, f"here: {model.path}"
    if model.package:
        spec = importlib.util.find_spec(model.package)
        if spec and spec.origin and (Path(spec.origin).parent / (model.file or "")).exists():
            return True, f"in the package {model.package}"
        return False, f"not here: pip install {model.package.replace('_', '-')}"
    if model.hub_id:
        cached = _hub_cache() / f"models--{model.hub_id.replace('/', '--')}" / "snapshots"
        if cached.is_dir():
            return True, f"downloaded from the hub: {model.hub_id}"
        return False, f"not here, on the hub: {model.hub_id}"
    return False, "not here: make demo-models" if model.name.startswith("smollm2_") else "not here"


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def _print_found(console: Console, found: list[FoundModel], folder: Path) -> None:
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


def _print_configured(console: Console, configured: list[ConfiguredModel]) -> None:
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

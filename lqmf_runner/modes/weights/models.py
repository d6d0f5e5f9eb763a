"""mode=models: what lies in the models folder, what the configuration names, and what is wrong with either."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...config import ModelsMode
from ...errors import LqmfError
from ...runs.context import RunContext
from ..base import Mode

if TYPE_CHECKING:
    from ...models.configured import ConfiguredModel


def run(context: RunContext) -> int:
    """List the models as a table, or as JSON with `mode.format=json`."""
    import msgspec

    from ...models import discover
    from ...output import list_console
    from ...reports.models.listing import print_configured, print_found

    mode = context.config.mode
    assert isinstance(mode, ModelsMode)
    folders = context.config.models_dir
    found = sorted(discover(folders), key=lambda model: model.name)
    configured = [_configured(context, name) for name in context.model_names if name != "local"]
    if mode.format == "json":
        listing = {
            "models": [msgspec.to_builtins(m) for m in found],
            "configured": [vars(c) for c in configured],
        }
        print(json.dumps(listing, indent=2))
    else:
        console = list_console()
        print_found(console, found, folders)
        print_configured(console, configured)
    return 0


def _configured(context: RunContext, name: str) -> ConfiguredModel:
    from ...models.configured import ConfiguredModel, configured_model

    try:
        return configured_model(name, context.compose(name))
    except LqmfError as error:
        return ConfiguredModel(name, "", False, error.message)


MODE = Mode(
    ModelsMode,
    "list the models there are, and which of them can run",
    "models",
    run,
    needs_model=False,
    leaves_folder=False,
)

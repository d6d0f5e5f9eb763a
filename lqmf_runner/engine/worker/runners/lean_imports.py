"""Blocks imports of packages that inference does not need. They would cost a worker seconds and 100 MB."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, cast

# scipy computes losses, boto3 is for Amazon, torchao is another quantizer. They appear as not installed.
UNUSED = ("scipy", "boto3", "torchao", "datasets", "pandas")


def prepare_torch() -> None:
    """Call this before transformers is imported, in a process that runs a model and does nothing else.

    `torch.compile` then returns functions unchanged: bitsandbytes compiles its optimizers at import, and gptqmodel a
    layer whose kernel is compiled already.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, cast(ModuleType, None))
    try:
        import torch
    except ModuleNotFoundError:  # what needs it says so, with the line that installs it
        return
    torch.compile = _as_it_is


def _as_it_is(function: Any = None, **options: Any) -> Any:
    """A decorator, plain or with options, that changes nothing."""
    return function if function is not None else lambda decorated: decorated

"""Finds the weights of a configured model. Runs take the function as an argument, so that tests can give another."""

from __future__ import annotations

from collections.abc import Callable

from ..config import RunConfig
from ..types import ModelSpec

Locate = Callable[[RunConfig], ModelSpec]


def locate_model(config: RunConfig) -> ModelSpec:
    """Find the weights of a configured model.

    Raises:
        LqmfError: see `models.locate`.
    """
    from ..models import locate

    return locate(config.model, config.backend, config.models_dir, placement=config.placed)

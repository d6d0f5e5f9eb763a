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


def require_model(config: RunConfig) -> None:
    """Refuse a configured model that cannot be there, before anything is made or measured.

    Raises:
        LqmfError: see `models.locate.require`.
    """
    from ..models.locate import require

    require(config.model, config.backend, config.models_dir)

"""Models that the configuration names, and whether their weights are on this machine."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..formats import is_remote
from ..install import pip_line
from .roots import roots_of


@dataclass(frozen=True)
class ConfiguredModel:
    """An entry of `conf/model/` and whether its weights are on this machine."""

    name: str
    format: str
    present: bool
    status: str


def configured_model(name: str, config: RunConfig) -> ConfiguredModel:
    """What is known of a model's configuration `name`. Nothing is loaded or fetched."""
    present, status = _whereabouts(config)
    return ConfiguredModel(name, config.backend.format, present, status)


def _whereabouts(config: RunConfig) -> tuple[bool, str]:
    model = config.model
    if is_remote(config.backend.format):
        urls = getattr(config.backend, "base_urls", None) or [getattr(config.backend, "base_url", "")]
        return True, f"remote, {' '.join(urls)}".rstrip(", ")
    if model.path and any((root / model.path).exists() for root in roots_of(config.models_dir)):
        return True, f"here: {model.path}"
    if model.package:
        spec = importlib.util.find_spec(model.package)
        if spec and spec.origin and (Path(spec.origin).parent / (model.file or "")).exists():
            return True, f"in the package {model.package}"
        return False, f"not here: {pip_line(model.package.replace('_', '-'))}"
    if model.hub_id:
        cached = _hub_cache() / f"models--{model.hub_id.replace('/', '--')}" / "snapshots"
        if cached.is_dir():
            return True, f"downloaded from the hub: {model.hub_id}"
        return False, f"on the hub: {model.hub_id}"
    return False, "not here: make demo-models" if model.name.startswith("smollm2_") else "not here"


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()

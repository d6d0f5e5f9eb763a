"""Which names a server knows: those that are configured, those that were chosen, and those in the models folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lqmf_runner.config import RunConfig
from lqmf_runner.config.model import ModelConfig
from lqmf_runner.errors import ModelNotFoundError, UserInputError
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.server.pool.catalog import create_catalog, weights_mb


def compose(name: str, *overrides: str) -> RunConfig:
    if name == "broken":
        raise UserInputError("it does not go with the settings of this run")
    backend = OpenAIBackend() if name.startswith("endpoint") else RunConfig().backend
    return RunConfig(model=ModelConfig(name=name), backend=backend)


async def test_an_endpoint_is_known_only_if_it_was_chosen(tmp_path: Path):
    chosen = compose("endpoint_a")
    names = ["endpoint_a", "endpoint_b", "broken", "local"]
    catalog = create_catalog([chosen], names, compose, str(tmp_path))
    assert [entry.name for entry in await catalog.entries()] == ["endpoint_a"]
    spec, size_mb = await catalog.find("endpoint_a")
    assert (spec.name, spec.format, size_mb) == ("endpoint_a", "openai", 0.0)
    for unknown in ("endpoint_b", "broken", "local", "../etc/passwd"):
        with pytest.raises(ModelNotFoundError):
            await catalog.find(unknown)


async def test_a_link_that_leads_out_of_the_models_folder_is_no_model(tmp_path: Path):
    outside, models = tmp_path / "outside", tmp_path / "models"
    outside.mkdir()
    models.mkdir()
    (outside / "m.gguf").write_bytes(b"GGUF")
    (models / "inside.gguf").symlink_to(outside / "m.gguf")
    catalog = create_catalog([], [], compose, str(models))
    with pytest.raises(ModelNotFoundError):
        await asyncio.wait_for(catalog.find("inside"), 10)


def test_the_size_of_weights_is_that_of_their_files(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2_000_000)
    (tmp_path / "README.md").write_bytes(b"x" * 5_000_000)
    assert weights_mb(str(tmp_path)) == 2.0
    assert weights_mb(str(tmp_path / "model.safetensors")) == 2.0
    assert weights_mb("") == 0.0

"""Which names a server knows: those that are configured, those that were chosen, and those in the models folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lqmf_runner.config import RunConfig
from lqmf_runner.config.model import BackendConfig, ModelConfig
from lqmf_runner.errors import ModelNotFoundError, UserInputError
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.server.pool.catalog import create_catalog

from ...support.models.tiny import make_gguf


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


async def test_a_name_that_is_nearly_one_that_is_known_is_told_which(tmp_path: Path):
    for name in ("smollm2_gguf", "qwen_gguf"):
        make_gguf(tmp_path / f"{name}.gguf")
    (tmp_path / "broken_model.gguf").write_bytes(b"GGUF")
    catalog = create_catalog([], [], compose, str(tmp_path))
    meant = {
        "smolm2_gguf": "smollm2_gguf",
        "SmolLM2-GGUF": "smollm2_gguf",
        "qwen": None,
        "broken_modell": None,
    }
    for name, known in meant.items():
        with pytest.raises(ModelNotFoundError) as missing:
            await catalog.find(name)
        said = f" (did you mean {known}?)" if known else ""
        assert missing.value.message == f"there is no model {name!r}{said}"
        assert "/models/available" in missing.value.hint


async def test_a_link_that_leads_out_of_the_models_folder_is_no_model(tmp_path: Path):
    outside, models = tmp_path / "outside", tmp_path / "models"
    outside.mkdir()
    models.mkdir()
    (outside / "m.gguf").write_bytes(b"GGUF")
    (models / "inside.gguf").symlink_to(outside / "m.gguf")
    catalog = create_catalog([], [], compose, str(models))
    with pytest.raises(ModelNotFoundError):
        await asyncio.wait_for(catalog.find("inside"), 10)


async def test_the_runs_draft_model_is_for_the_models_that_it_names(tmp_path: Path):
    for name in ("main", "other", "small"):
        make_gguf(tmp_path / f"{name}.gguf")
    draft = str(tmp_path / "small.gguf")

    def with_draft(name: str, *overrides: str) -> RunConfig:
        own = tmp_path / "other.gguf" if name == "with_its_own" else draft
        return RunConfig(
            model=ModelConfig(
                name=name, path=str(tmp_path / f"{'main' if name == 'chosen' else 'other'}.gguf")
            ),
            backend=BackendConfig(draft_model=str(own)),
            models_dir=[str(tmp_path)],
        )

    names = ["configured", "with_its_own", "local"]
    catalog = create_catalog([with_draft("chosen")], names, with_draft, str(tmp_path))
    drafts = {
        name: (await catalog.find(name))[0].options["draft_model"] for name in ("chosen", *names[:2], "small")
    }
    assert drafts == {
        "chosen": draft, "configured": None, "with_its_own": str(tmp_path / "other.gguf"), "small": None
    }  # fmt: skip
    chosen, alone = (await catalog.find("chosen"))[1], (await catalog.find("configured"))[1]
    assert chosen == pytest.approx(2 * alone), "the memory of both is planned"


async def test_a_draft_model_for_an_endpoint_is_refused(tmp_path: Path):
    chosen = RunConfig(model=ModelConfig(name="e"), backend=OpenAIBackend(draft_model="small"))
    catalog = create_catalog([chosen], [], compose, str(tmp_path))
    with pytest.raises(UserInputError, match="for models that run here"):
        await catalog.find("e")

"""A model that is given by its name, path or hub id is that model, under its own name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from lqmf_runner.app.choices import model as model_choice
from lqmf_runner.app.choices.model import NO_MODEL, model_overrides, name_by_place
from lqmf_runner.errors import UserInputError

from ...conftest import Run
from ...support.models.tiny import make_gguf


def choose_model(overrides: list[str]) -> list[str]:
    return model_choice.choose_model(overrides, ["mine", "a"], "no such folder")


@pytest.mark.parametrize("place", ["model.name=other", "model.path=a/b.gguf", "model.hub_id=a/b"])
def test_a_place_without_a_model_is_not_another_place_for_the_default(place: str) -> None:
    assert choose_model(["mode=chat", place]) == ["mode=chat", place, "model=local"]
    for chosen in ("model=mine", "experiment=mine"):
        assert choose_model([chosen, place]) == [chosen, place]


def test_the_rest_stays_as_it_is() -> None:
    for words in (["mode=chat"], ["mode=chat", "model.file=x"], ["models=[a,b]", "mode=compare"]):
        assert choose_model(words) == words
    assert choose_model(["model=null", "mode=serve"]) == [*NO_MODEL, "mode=serve"]


def test_what_is_there_is_one_model_whatever_its_name_has(tmp_path: Path) -> None:
    for name in ("model (1).gguf", "a,b.gguf"):
        typed = [f"model={tmp_path / name}"]
        assert choose_model(typed) == typed  # perhaps several, for Hydra to read
        (tmp_path / name).touch()
        assert choose_model(typed) == ["model=local", f"model.path='{tmp_path / name}'"]
    long = f"model={','.join(['mine'] * 100)}"
    assert choose_model([long]) == [long]


def test_one_place_for_several_models_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"model\.path=x is one model, and models=\[a,b\] are several"):
        choose_model(["models=[a,b]", "model.path=x"])


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ({"path": "models/Some-Model_Q4.gguf"}, "Some-Model_Q4"), ({"path": "big-00001-of-00002.gguf"}, "big"),
        ({"path": "pub/Repo-1.5B/"}, "Repo-1.5B"), ({"path": "."}, Path.cwd().name), ({"path": "x.GGUF"}, "x"),
        ({"hub_id": "owner/Repo-2.5B"}, "Repo-2.5B"), ({"path": "x", "name": "own"}, "own"),
    ],
)  # fmt: skip
def test_a_model_without_a_name_has_that_of_its_place(place: dict[str, str], name: str) -> None:
    model = {"name": "???", "path": None, "hub_id": None, **place}
    composed = OmegaConf.create({"model": model})
    name_by_place(composed)
    assert composed.model.name == name


def test_the_name_is_that_of_the_run(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.gguf").write_bytes(b"no model")
    run_program("mode=quantize", "model.path=a/b.gguf", "mode.method=gguf", "mode.type=Q4_0")
    (config,) = (tmp_path / "outputs").glob("*/*/.hydra/config.yaml")
    model = yaml.safe_load(config.read_text())["model"]
    assert (model["name"], model["package"]) == ("b", None)


def test_the_models_folder_comes_from_the_environment(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    env = {"LQMF_MODELS": str(tmp_path / "mine")}
    assert f"no models in {tmp_path}/mine" in run_program("models", env=env).stdout
    assert "no models in elsewhere" in run_program("models", "models_dir=elsewhere", env=env).stdout


@pytest.mark.parametrize("how", ["environment", "words", "settings", "yaml"])
def test_models_may_lie_in_several_folders(how: str, run_program: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_gguf(tmp_path / name / f"in_{name}.gguf")
    words, env = ["models", "mode.format=json"], dict[str, str]()
    if how == "environment":
        env = {"LQMF_MODELS": f"one:{tmp_path}/two"}
    elif how == "words":
        words.append("--models-dir=one,two")
    elif how == "settings":
        words.append("models_dir=[one, two]")
    else:
        (tmp_path / "own" / "experiment").mkdir(parents=True)
        yaml_text = "# @package _global_\nmodels_dir: [one, two]\n"
        (tmp_path / "own" / "experiment" / "mine.yaml").write_text(yaml_text)
        words += ["--config-dir", "own", "experiment=mine"]
    done = run_program(*words, env=env)
    assert done.returncode == 0, done.stderr
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == ["in_one", "in_two"]


def test_one_folder_in_yaml_needs_no_list(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nmodels_dir: 007\n")
    done = run_program("models", "--config-dir", "own", "experiment=mine")
    assert "no models in 007/" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("hf.co/a/b", ["model.hub_id='a/b'"]), ("https://huggingface.co/a/b", ["model.hub_id='a/b'"]),
        ("a/b:Q4_K_M", ["model.hub_id='a/b'", "model.file='*Q4_K_M*'"]),
        ("https://huggingface.co/a/b/blob/main/x-Q4_0.gguf",
         ["model.hub_id='a/b'", "model.revision='main'", "model.file='x-Q4_0.gguf'"]),
        ("huggingface.co/a/b/tree/v1", ["model.hub_id='a/b'", "model.revision='v1'"]),
        ("a/b/c", ["model.path='a/b/c'"]),
    ],
)  # fmt: skip
def test_a_page_of_the_hub_and_a_type_are_understood(name: str, means: list[str], tmp_path: Path) -> None:
    assert model_overrides(name, [], tmp_path) == ["model=local", *means]


def test_a_name_is_a_name_everywhere(tmp_path: Path) -> None:
    models_dir = tmp_path / "models"
    (models_dir / "plain").mkdir(parents=True)
    (models_dir / "plain" / "config.json").write_text("{}")

    def said(name: str) -> list[str]:
        return model_overrides(name, ["mine"], models_dir)

    assert said("mine") == ["model=mine"]
    assert said("plain") == ["model=local", "model.name='plain'"]
    assert said(str(models_dir / "plain")) == ["model=local", f"model.path='{models_dir}/plain'"]
    assert said("Qwen/Qwen2.5-0.5B") == ["model=local", "model.hub_id='Qwen/Qwen2.5-0.5B'"]
    assert said("./it's ${here}.gguf") == ["model=local", r"model.path='./it\'s ${here}.gguf'"]
    with pytest.raises(UserInputError, match=r"unknown model 'plian' \(did you mean plain\?\)"):
        said("plian")

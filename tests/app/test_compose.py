"""What a run needs is composed and checked before anything is made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lqmf_runner.app.compose import Composer
from lqmf_runner.errors import LqmfError
from lqmf_runner.formats.transformers import TransformersBackend

from ..conftest import Compose, Run
from ..support.models.tiny import make_gguf


@pytest.mark.parametrize(
    "words",
    [
        ["mode=benchmark", "mode.concurrency=[0]"],
        ["mode=benchmark", "mode.requests=0"],
        ["mode=benchmark", "prompts.entries=[]"],
        ["mode=compare", "models=[smollm2_gguf]", "mode.concurrency=[]"],
        ["mode=quantize", "mode.method=gguf", "mode.type=Q9"],
        ["mode=benchmark", "models=[smollm2_gguf,smollm2_bnb4]", "backend.kv_type=f32"],
        ["mode=batch"],
        ["mode=benchmark", "reference=local"],
        ["mode=benchmark", "judge.model=smollm2_gguf", "judge.base_url=http://127.0.0.1:9"],
        ["-m", "mode=benchmark", "model=smollm2_gguf,qwen_gguf", "mode.concurrency=[0]"],
        ["-m", "mode=benchmark", "backend.max_slots=0,-1"],
    ],
    ids=" ".join,
)
def test_what_is_refused_before_it_runs_leaves_no_folder(
    words: list[str], run_program: Run, tmp_path: Path
) -> None:
    result = run_program(*words)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "there", "gone.gguf"],
        ["compare", "there", "other", "--reference", "gone.gguf"],
        ["benchmark", "there", "judge.model=gone.gguf"],
        ["benchmark", "gone.gguf"],
        ["batch", "gone.gguf", "quantized-models/there.gguf"],
        ["chat", "gone.gguf", "Hi"],
        ["serve", "there", "gone.gguf"],
        ["quantize", "gone.gguf", "bnb"],
    ],
    ids=" ".join,
)
def test_a_model_that_is_not_there_is_refused_before_another_is_run(
    words: list[str], run_program: Run, tmp_path: Path
) -> None:
    (tmp_path / "quantized-models").mkdir()
    for name in ("there", "other"):
        make_gguf(tmp_path / "quantized-models" / f"{name}.gguf")
    result = run_program(*words, "tracking=none")
    assert result.returncode == 2
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: the weights of gone are missing: no gone.gguf in the models folder")
    assert hint.startswith("hint: correct the path")
    assert not (tmp_path / "outputs").exists()


def test_the_reference_keeps_its_own_backend(compose_config: Compose) -> None:
    """Settings of the models' formats would make no sense to it; those that every backend knows are shared."""
    task = [
        "mode=benchmark",
        "model=smollm2_gguf",
        "backend.kv_type=f32",
        "backend.n_threads=3",
        "reference=smollm2_bf16",
    ]
    settings = SimpleNamespace(
        job=SimpleNamespace(config_name="config"), overrides=SimpleNamespace(task=task)
    )
    reference = Composer(settings).other("smollm2_bf16")  # type: ignore[arg-type]
    assert type(reference.backend) is TransformersBackend
    assert reference.backend.n_threads == 3
    assert reference.model.name == "smollm2_bf16"


def test_a_mistake_of_one_of_several_models_names_it(run_program: Run) -> None:
    done = run_program("mode=benchmark", "models=[smollm2_gguf,smollm2_bnb4]", "backend.kv_type=f32")
    assert done.returncode == 2
    assert "model smollm2_bnb4: unknown key 'backend.kv_type'" in done.stderr


def test_a_reference_that_is_not_there_is_named_with_those_that_are(run_program: Run) -> None:
    done = run_program("mode=benchmark", "model=smollm2_gguf", "reference=smollm3")
    assert done.returncode == 2
    assert "smollm3" in done.stderr
    assert "smollm2_bf16" in done.stderr


def test_the_place_of_the_chosen_model_is_not_that_of_others(compose_config: Compose) -> None:
    compose_config("mode=serve")
    task = ["mode=serve", "model=local", "model.path=/x/y.gguf", "model.file=z"]
    settings = SimpleNamespace(
        job=SimpleNamespace(config_name="config"), overrides=SimpleNamespace(task=task)
    )
    other = Composer(settings)("smollm2_bnb4").model  # type: ignore[arg-type]
    assert (other.name, other.path, other.file) == ("smollm2_bnb4", "smollm2_bnb_4bit", None)


def composer(models: Path, *task: str) -> Composer:
    settings = SimpleNamespace(
        job=SimpleNamespace(config_name="config"), overrides=SimpleNamespace(task=["mode=benchmark", *task])
    )
    return Composer(settings, [str(models)])  # type: ignore[arg-type]


def test_a_draft_model_is_found_as_other_models_are(compose_config: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("large", "small"):
        make_gguf(folder / f"{name}.gguf")
    dirs = f"models_dir=['{folder}']"
    for typed in ("small", "small.gguf", str(folder / "small.gguf")):
        compose = composer(folder, dirs, f"backend.draft_model='{typed}'")
        assert compose("large").backend.draft_model == str(folder / "small.gguf")
        assert compose.other("large").backend.draft_model is None, "a reference has none"
    for typed in ("smal", "smollm2_bf16", "a/b"):
        with pytest.raises(LqmfError) as caught:
            composer(folder, dirs, f"backend.draft_model={typed}")("large")
        assert caught.value.message.startswith(f"backend.draft_model={typed}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backend.draft_model=nothing"], "backend.draft_model=nothing: "),
        (["backend.draft_model=smollm2_gguf", "backend.speculation=off"], "does nothing with backend.speculation=off"),
        (["backend.draft_model=smollm2_gguf", "backend.batch_invariant=true"], "with backend.batch_invariant=true"),
        (["backend.draft_model="], "backend.draft_model is empty"),
    ],
)  # fmt: skip
def test_a_draft_model_that_could_do_nothing_is_refused(
    words: list[str], said: str, run_program: Run
) -> None:
    done = run_program("mode=benchmark", "model=smollm2_gguf", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr

"""Locating: where the weights are, what they are, and which backend fits; clear errors for everything else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lqmf_runner.config import BackendConfig, ModelConfig
from lqmf_runner.errors import ModelNotFoundError, ModelUnusableError, UserInputError
from lqmf_runner.formats.bnb import BnbBackend
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.formats.gptq import GptqBackend
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.formats.transformers import TransformersBackend
from lqmf_runner.install import pip_line
from lqmf_runner.models import locate


@pytest.fixture
def models_dir(tmp_path: Path, checkpoint: Path, gguf_file: Path) -> Path:
    root = tmp_path / "models"
    shutil.copytree(checkpoint, root / "plain")
    shutil.copy(gguf_file, root / "bare.gguf")
    return root


def test_folder_name_is_enough(models_dir: Path) -> None:
    spec = locate(ModelConfig(name="plain"), BackendConfig(), models_dir)
    assert (spec.name, spec.format, spec.path) == ("plain", "transformers", str(models_dir / "plain"))
    assert spec.version
    assert spec.options["dtype"] == "auto"


def test_bare_gguf_is_found_by_its_stem(models_dir: Path) -> None:
    assert locate(ModelConfig(name="bare"), BackendConfig(), models_dir).path == str(models_dir / "bare.gguf")


def test_path_may_be_relative_or_absolute(models_dir: Path) -> None:
    for path in ("plain", str(models_dir / "plain")):
        assert locate(ModelConfig(name="m", path=path), BackendConfig(), models_dir).path == str(
            models_dir / "plain"
        )


def test_auto_keeps_the_common_settings(models_dir: Path) -> None:
    spec = locate(ModelConfig(name="bare"), BackendConfig(n_ctx=99, max_slots=3), models_dir)
    assert spec.options["format"] == spec.format == "gguf"
    assert (spec.options["n_ctx"], spec.options["max_slots"], spec.options["n_gpu_layers"]) == (99, 3, -1)


def test_a_file_in_a_package_is_found_without_importing_it(
    tmp_path: Path, gguf_file: Path, monkeypatch
) -> None:
    package = tmp_path / "path" / "weights_of_somebody"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(gguf_file, package / "tiny.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    model = ModelConfig(name="m", package="weights_of_somebody", file="tiny.gguf")
    assert locate(model, GgufBackend(), tmp_path).path == str(package / "tiny.gguf")
    with pytest.raises(UserInputError, match="leads out of the package"):
        locate(ModelConfig(name="m", package=model.package, file="../../secret"), GgufBackend(), tmp_path)


def test_a_local_folder_goes_before_the_package(models_dir: Path) -> None:
    model = ModelConfig(name="m", path="plain", package="json", file="decoder.py")
    assert locate(model, BackendConfig(), models_dir).path == str(models_dir / "plain")


def test_missing_package_says_how_to_install_it(tmp_path: Path) -> None:
    model = ModelConfig(name="m", package="no_such_package", file="x.gguf")
    with pytest.raises(ModelNotFoundError) as caught:
        locate(model, GgufBackend(), tmp_path)
    assert caught.value.hint == f"install it: {pip_line('no-such-package')}"


@pytest.mark.parametrize(
    "name", ["../plain", "/etc/passwd", "..", ".hidden", "a\0b", "", "plain/../plain", "a\\b"]
)
def test_a_name_is_not_a_path(models_dir: Path, name: str) -> None:
    with pytest.raises(UserInputError, match="is not the name of a model"):
        locate(ModelConfig(name=name), BackendConfig(), models_dir)


def test_a_name_does_not_follow_links_out_of_the_folder(models_dir: Path, checkpoint: Path) -> None:
    (models_dir / "link").symlink_to(checkpoint)
    with pytest.raises(UserInputError, match="symbolic link"):
        locate(ModelConfig(name="link"), BackendConfig(), models_dir)


def test_a_link_into_a_listed_folder_is_followed(models_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    (models_dir / "link").symlink_to(checkpoint)
    folders = [models_dir, checkpoint.parent]
    spec = locate(ModelConfig(name="link"), BackendConfig(), folders)
    assert (spec.path, spec.format) == (str(models_dir / "link"), "transformers")
    by_path = locate(ModelConfig(name="m", path=checkpoint.name), BackendConfig(), folders)
    assert (by_path.path, by_path.version) == (str(checkpoint), spec.version)


def test_unknown_name_lists_those_there_are(models_dir: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(ModelConfig(name="nothing"), BackendConfig(), models_dir)
    assert caught.value.hint == "those there are: bare, plain"


@pytest.mark.parametrize("folder", [".", ".."])
def test_a_relative_path_that_is_not_there_was_looked_up_in_both_folders(tmp_path: Path, folder: str) -> None:
    model = ModelConfig("my-model", path=f"{folder}/my-model.gguf")
    with pytest.raises(ModelNotFoundError, match=r"models folder or the current folder") as caught:
        locate(model, BackendConfig(), tmp_path)
    assert caught.value.hint == "correct the path, or see what there is: lqmf models"


def test_an_absolute_path_that_is_not_there_names_no_other_folder(tmp_path: Path) -> None:
    model = ModelConfig("my-model", path=str(tmp_path / "my-model.gguf"))
    with pytest.raises(ModelNotFoundError, match=r"are missing: no /[^ ]*/my-model\.gguf$"):
        locate(model, BackendConfig(), tmp_path)


def test_missing_demo_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(ModelConfig(name="smollm2_bnb4", path="smollm2_bnb_4bit"), BnbBackend(), tmp_path)
    assert "make demo" in caught.value.hint


def test_conflict_of_formats_is_refused(models_dir: Path) -> None:
    for backend in (GptqBackend(), BnbBackend(), GgufBackend()):
        with pytest.raises(UserInputError, match=f"plain is a transformers model .*, not {backend.format}"):
            locate(ModelConfig(name="plain"), backend, models_dir)


def test_quantize_on_load_takes_an_unquantized_checkpoint(models_dir: Path) -> None:
    spec = locate(ModelConfig(name="plain"), BnbBackend(quantize_on_load="4bit"), models_dir)
    assert (spec.format, spec.options["quantize_on_load"]) == ("bnb", "4bit")


def test_broken_weights_do_not_send_us_to_the_hub(models_dir: Path) -> None:
    (models_dir / "plain" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnusableError, match="is empty"):
        locate(ModelConfig(name="m", path="plain", hub_id="owner/name"), TransformersBackend(), models_dir)


def test_trust_remote_code_reaches_the_check(models_dir: Path) -> None:
    file = models_dir / "plain" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": {"AutoConfig": "x.Y"}}))
    with pytest.raises(ModelUnusableError, match="auto_map"):
        locate(ModelConfig(name="plain"), TransformersBackend(), models_dir)
    assert locate(ModelConfig(name="plain"), TransformersBackend(trust_remote_code=True), models_dir).path


def test_remote_endpoint_needs_no_files(tmp_path: Path) -> None:
    spec = locate(ModelConfig(name="m"), OpenAIBackend(base_url="http://x/v1"), tmp_path)
    assert (spec.format, spec.path, spec.options["base_url"]) == ("openai", "", "http://x/v1")


LOCATE_FROM_HUB = """
import sys, time
from pathlib import Path
from lqmf_runner.config import ModelConfig, BackendConfig
from lqmf_runner.errors import ModelNotFoundError
from lqmf_runner.models import locate
try:
    locate(ModelConfig(name="qwen", path="Qwen_bnb_4bit", hub_id="Qwen/Qwen2.5"), BackendConfig(), Path(sys.argv[1]))
except ModelNotFoundError as error:
    print(error.message)
    print(error.hint)
heavy = {"torch", "transformers", "llama_cpp", "mlflow", "gguf"} & set(sys.modules)
assert not heavy, heavy
"""


def locate_from_hub(root: Path, **environment: str) -> tuple[list[str], float]:
    clean = {
        k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")
    }
    env = {**clean, "HF_HOME": str(root / "cache"), "NO_PROXY": "*", **environment}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOCATE_FROM_HUB, str(root)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - started


@pytest.mark.parametrize("silent", [True, False], ids=["never answers", "refuses"])
def test_unreachable_hub_is_told_within_five_seconds(tmp_path: Path, silent: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen()
        lines, seconds = locate_from_hub(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{server.getsockname()[1]}")
    assert seconds < 5
    assert len(lines) == 2
    assert "the weights of qwen are not on this machine and the hub cannot be reached" in lines[0]
    assert "model.path=Qwen_bnb_4bit" in lines[1]


def test_offline_switch_is_honoured(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        lines, _ = locate_from_hub(tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT=endpoint)
        with pytest.raises(BlockingIOError):  # nobody has connected
            hub.accept()
    assert "HF_HUB_OFFLINE is set" in lines[0]


def test_hub_cache_needs_no_connection(tmp_path: Path, checkpoint: Path) -> None:
    repository = tmp_path / "cache" / "hub" / "models--Qwen--Qwen2.5"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(checkpoint, repository / "snapshots" / ("0" * 40))
    lines, _ = locate_from_hub(tmp_path, HF_HUB_OFFLINE="1")
    assert lines == []

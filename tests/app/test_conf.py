"""The YAML files are found, in a checkout and in an installed package."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import cast

import pytest
import yaml
from omegaconf import OmegaConf

from lqmf_runner.app.conf import conf_dir


def test_the_conf_of_a_checkout_lies_beside_the_package() -> None:
    assert (conf_dir() / "config.yaml").is_file()


BASE_PACKAGES = ("hydra-core", "omegaconf", "antlr4-python3-runtime", "PyYAML", "packaging", "msgspec", "rich",
                 "markdown-it-py", "mdurl", "Pygments", "psutil")  # fmt: skip


@pytest.mark.timeout(180)
def test_the_wheel_finds_its_conf_in_an_empty_environment(tmp_path: Path) -> None:
    root = conf_dir().parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    build = cast(Callable[..., subprocess.CompletedProcess[str]], subprocess.run)
    build(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(root)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("lqmf_runner-*.whl")
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    build(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in BASE_PACKAGES:
        for file in metadata.files(name) or []:
            source, target = Path(str(file.locate())), site / str(file)
            if ".." not in str(file) and source.is_file() and "__pycache__" not in str(file):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "lqmf_runner", *args], cwd=elsewhere, env=env, capture_output=True, text=True
        )

    assert "smollm2_gguf" in run("--help").stdout
    mistake = run("mode=benchmark", "backend.nctx=5")
    assert mistake.returncode == 2
    assert "did you mean n_ctx?" in mistake.stderr
    composed = run("mode=benchmark", "prompts=code", "--cfg", "job")
    assert yaml.safe_load(composed.stdout)["prompts"]["name"] == "code", composed.stderr
    assert list(elsewhere.iterdir()) == []


def test_shipped_yaml_has_no_interpolation_that_needs_this_machine() -> None:
    for path in Path(conf_dir()).rglob("*.yaml"):
        text = path.read_text("utf-8")
        assert "oc.env:HOME" not in text
        assert OmegaConf.create(text) is not None

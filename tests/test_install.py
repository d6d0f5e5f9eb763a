"""Where a package is missing: the line to type is right for a clone, its own Python, or an installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lqmf_runner import install
from lqmf_runner.app.terminal import report
from lqmf_runner.engine.worker import runners
from lqmf_runner.errors import MissingDependencyError
from lqmf_runner.formats import get_format
from lqmf_runner.install import install_line, missing_package, pip_line


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "clone"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").touch()
    (root / "pyproject.toml").touch()
    monkeypatch.setattr(install, "_ROOT", root)
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    monkeypatch.chdir(root)
    return root


def test_in_a_clone_it_is_the_clone_that_is_installed(clone: Path, monkeypatch: pytest.MonkeyPatch):
    assert install_line("bnb") == ".venv/bin/python -m pip install -e '.[bnb]'"
    assert install_line() == ".venv/bin/python -m pip install -e '.'"
    assert pip_line("a==1", "b") == ".venv/bin/python -m pip install a==1 b"
    monkeypatch.chdir(clone.parent)
    assert install_line("bnb") == "in the clone: .venv/bin/python -m pip install -e '.[bnb]'"
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert install_line("bnb") == "in the clone: python -m pip install -e '.[bnb]'"


def test_an_installed_package_is_named(clone: Path):
    (clone / "pyproject.toml").unlink()
    assert install_line("gguf") == ".venv/bin/python -m pip install 'lqmf-runner[gguf]'"


def test_another_python_is_told_of_the_clone_s_own(clone: Path, monkeypatch: pytest.MonkeyPatch):
    error = ModuleNotFoundError("No module named 'hydra'", name="hydra.core")
    assert missing_package(error) == (
        "the package hydra is not installed",
        "make setup, or .venv/bin/python -m pip install -e '.'",
    )
    monkeypatch.setattr(sys, "prefix", "/usr")
    message, hint = missing_package(error)
    assert message == "this Python has no package hydra; the one in .venv is set up for the program"
    assert hint == ".venv/bin/lqmf, or source .venv/bin/activate before it"


def test_a_python_without_the_packages_gets_two_lines(tmp_path: Path):
    root = Path(install.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-S", "-m", "lqmf_runner", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert "package " in first
    assert second.startswith("hint: ")


def test_the_terminal_words_a_missing_package(capsys: pytest.CaptureFixture[str]):
    assert report(ModuleNotFoundError("No module named 'x'", name="x")) == 2
    said = capsys.readouterr().err
    assert "package x" in said
    assert "Traceback" not in said
    assert report(ModuleNotFoundError("No module named 'lqmf_runner.y'", name="lqmf_runner.y")) == 1


def test_a_worker_without_its_package_says_so(monkeypatch: pytest.MonkeyPatch):
    format = get_format("gguf")
    other = type(format)(
        **{f: getattr(format, f) for f in format.__dataclass_fields__} | {"runner": "no_such:X"}
    )
    monkeypatch.setattr(runners, "find_format", lambda name: other)
    with pytest.raises(MissingDependencyError, match="not installed: no_such") as raised:
        runners.runner_class("gguf")
    assert raised.value.hint == install_line("gguf")

"""mode=compare as a user runs it, on models of a few hundred kilobytes: real workers, real fidelity, a verdict."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.results.files import read_results
from tests.conftest import Run
from tests.support.models.tiny import make_gguf

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="needs llama-cpp-python and gguf",
)


SETTINGS = (
    "--config-dir", "own", "models_dir=models", "fidelity.text=text.txt", "fidelity.max_tokens=1024",
    "fidelity.divergence_tokens=8", "prompts=reasoning", "prompts.entries=[{id: a, prompt: Why}]",
    "mode.concurrency=[1,2]", "mode.requests=2", "mode.warmup=1", "mode.sampling.max_tokens=4",
    "backend.n_ctx=512", "backend.n_threads=1", "tracking=none",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a text to measure on, where models and their configurations can be put."""
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    (tmp_path / "text.txt").write_text(" ".join(f"{n} and {n * n} are {n + n * n}." for n in range(200)))
    return tmp_path


def configure(root: Path, name: str, path: str, backend: str) -> None:
    (root / "own" / "model" / f"{name}.yaml").write_text(
        f"defaults: [model_schema, {{override /backend@_global_.backend: {backend}}}]\nname: {name}\npath: {path}\n"
    )


def the_run(root: Path) -> Path:
    (folder,) = (root / "outputs").glob("*/*-compare")
    return folder


def test_a_damaged_model_comes_last_and_a_failing_one_does_not_stop_the_others(
    run_program: Run, root: Path
) -> None:
    """In order of damage: Q8_0 as it should be, with the scales of its blocks swapped, with noise on the weights."""
    variants: dict[str, dict[str, Any]] = {
        "whole": {},
        "near": {"q8_0": True},
        "swapped": {"q8_0": True, "swap_scales": True},
        "damaged": {"q8_0": True, "damage": 1.0},
    }
    for name, how in variants.items():
        make_gguf(root / "models" / f"{name}.gguf", **how)
    (root / "models" / "torn.gguf").write_bytes(b"no model")
    for name in (*variants, "torn"):
        configure(root, name, f"{name}.gguf", "gguf")
    result = run_program(
        "mode=compare", "models=[damaged,torn,swapped,near]", "reference=whole", "verdict.max_kld=0.01", *SETTINGS
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    folder = the_run(root)
    results = read_results(folder)
    verdict = results.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.reference) == ("near", "whole")
    assert [m.name for m in verdict.models] == ["near", "swapped", "damaged", "torn"]
    for broken in verdict.models[1:3]:
        assert [miss.constraint for miss in broken.misses] == ["max_kld"]
    assert verdict.models[2].score is not None
    assert verdict.models[2].score < 0.5
    assert "ModelUnusableError" in str(verdict.models[3].error)
    assert "Verdict: near." in result.stdout
    assert "It alone meets KLD at most 0.01." in result.stdout
    assert "damaged does not qualify: KLD" in result.stdout
    assert {"results.json", "requests.jsonl", "report.md", "report.html"} <= {
        p.name for p in folder.iterdir()
    }

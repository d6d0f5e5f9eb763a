"""mode=compare as a user runs it, on models of a few hundred kilobytes: real workers, real fidelity, a verdict."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lqmf_runner.experiments.results import read_results
from tests.conftest import Run
from tests.models.tiny import make_gguf

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="needs llama-cpp-python and gguf",
)


@pytest.fixture
def models(tmp_path: Path) -> None:
    """A reference, a model near to it, a damaged one, and a name without weights."""
    configs = tmp_path / "own" / "model"
    configs.mkdir(parents=True)
    (tmp_path / "models").mkdir()
    for name, damage in (("whole", 0.0), ("near", 0.02), ("damaged", 1.0), ("absent", None)):
        if damage is not None:
            make_gguf(tmp_path / "models" / f"{name}.gguf", damage=damage)
        (configs / f"{name}.yaml").write_text(
            "defaults: [model_schema, {override /backend@_global_.backend: gguf}]\n"
            f"name: {name}\npath: {name}.gguf\n"
        )
    (tmp_path / "text.txt").write_text(" ".join(f"{n} and {n * n} are {n + n * n}." for n in range(200)))


@pytest.mark.usefixtures("models")
def test_a_damaged_model_comes_last_and_a_failing_one_does_not_stop_the_others(
    run_program: Run, tmp_path: Path
) -> None:
    result = run_program(
        "mode=compare", "models=[damaged,absent,near]", "reference=whole", "verdict.max_kld=0.1",
        "--config-dir", "own", "models_dir=models", "fidelity.text=text.txt", "fidelity.max_tokens=1024",
        "fidelity.divergence_tokens=8", "prompts=reasoning", "prompts.entries=[{id: a, prompt: Why}]",
        "mode.concurrency=[1,2]", "mode.requests=2", "mode.warmup=1", "mode.sampling.max_tokens=4",
        "backend.n_ctx=512", "backend.n_threads=1", "tracking=none",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    (folder,) = (tmp_path / "outputs").glob("*/*-compare")
    results = read_results(folder)
    verdict = results.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.reference) == ("near", "whole")
    assert [m.name for m in verdict.models] == ["near", "damaged", "absent"]
    damaged, absent = verdict.models[1:]
    assert [miss.constraint for miss in damaged.misses] == ["max_kld"]
    assert damaged.score is not None
    assert damaged.score < 0.1
    assert "ModelNotFoundError" in str(absent.error)
    assert "Verdict: near." in result.stdout
    assert "It alone meets KLD at most 0.1." in result.stdout
    assert "damaged does not qualify: KLD" in result.stdout
    assert {"results.json", "requests.jsonl", "report.md", "report.html"} <= {
        p.name for p in folder.iterdir()
    }

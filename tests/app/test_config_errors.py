"""A mistake in the configuration is one line with the valid names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Run
from ..support.server.processes import CPU_SECONDS, children_cpu_seconds

MISTAKES = {
    "mode": (["mode=benchmrk"], "unknown mode 'benchmrk' (did you mean benchmark?)", "quantize"),
    "a mode that is not built": (["mode=fly"], "unknown mode 'fly'", "benchmark"),
    "several modes": (["-m", "mode=models,status"], "mode=models,status with -m is several modes", "by itself"),
    "no mode of a sweep": (["-m", "server.port=1,2"], "no mode given", "benchmark"),
    "no mode": (["model=smollm2_gguf"], "no mode given", "benchmark"),
    "model": (["mode=benchmark", "model=smolm2_gguf"], "did you mean smollm2_gguf?", "a path or a hub id"),
    "one of several models": (["mode=benchmark", "models=[smollm2_gguf,foo]"], "unknown model 'foo'", "qwen_bnb4"),
    "backend": (["mode=benchmark", "backend=ggu"], "unknown backend 'ggu' (did you mean gguf?)", "openai"),
    "prompts": (["mode=benchmark", "prompts=generl"], "unknown prompts 'generl' (did you mean general?)", "code"),
    "key": (["mode=benchmark", "backend.nctx=5"], "unknown key 'backend.nctx' (did you mean n_ctx?)", "max_slots"),
    "key at the root": (["mode=benchmark", "modle=x"], "unknown key 'modle' (did you mean model?)", "prompts"),
    "added key": (["mode=benchmark", "+foo=1"], "unknown key 'foo'", "models_dir"),
    "nested key": (["mode=benchmark", "mode.sampling.max_token=1"], "did you mean max_tokens?", "temperature"),
    "not a number": (["mode=benchmark", "backend.n_ctx=abc"], "backend.n_ctx=abc is not valid", "a whole number"),
    "not a boolean": (["mode=benchmark", "tracking.enabled=perhaps"], "tracking.enabled=perhaps", "true or false"),
    "not a list": (["mode=benchmark", "mode.concurrency=five"], "mode.concurrency=five is not valid", "a list"),
    "out of range": (["mode=benchmark", "backend.max_slots=0"], "backend.max_slots=0", "at least 1"),
    "a negative time": (["mode=stop", "mode.timeout_s=-1"], "mode.timeout_s=-1", "at least 0"),
    "not a choice": (["mode=benchmark", "backend.device=tpu"], "backend.device=tpu", "auto, cpu, cuda"),
    "missing value": (["mode=benchmark", "model=local"], "model.name is not given", "model.name="),
    "several values": (["mode=benchmark", "model=a,b"], "model=a,b has several values", "add -m"),
    "null group": (["mode=null"], "cannot be null", "--help"),
    "several models": (["mode=batch", "models=[smollm2_gguf]"], "batch does not take models", "-m model=smollm2"),
    "a model twice": (["mode=benchmark", "models=[smollm2_gguf,smollm2_gguf]"], "names one twice", "each once"),
    "syntax": (["mode=benchmark", "models=[a"], "cannot read 'models=[a'", "key=value"),
    "no key": (["mode=benchmark", "bench"], "cannot read 'bench'", "key=value"),
    "interpolation": (["mode=benchmark", "model.path=${nope}"], "model.path cannot be resolved", "${...}"),
    "option": (["mode=benchmark", "--frobnicate"], "unknown option '--frobnicate'", "key=value"),
    "a part of the configuration that is none": (["mode=models", "--cfg", "foo"], "--cfg foo", "job, hydra, all"),
    "options that exclude each other": (["-m", "mode=models", "--cfg", "job"], "-m and --cfg", "--cfg job"),
    "option without its value": (["mode=benchmark", "--config-dir"], "--config-dir needs a value", "--help"),
    "config folder": (["mode=benchmark", "--config-dir", "nowhere"], "not found", "--config-dir"),
    "empty prompt set": (["mode=benchmark", "prompts.entries=[]"], "'custom' is empty", "entries"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("yaml", "error"),
    [
        (
            "defaults: [{override /backend: auto}]\nname: mine\n",
            "'override /backend' in model/mine.yaml lacks",
        ),
        ("name: mine\nbackend: bnb\n", "unknown key 'model.backend' in model/mine.yaml"),
    ],
)
def test_a_model_of_one_s_own_that_chooses_its_backend_wrongly_gets_the_line_to_write(
    yaml: str, error: str, run_program: Run, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(yaml)
    done = run_program("mode=benchmark", "model=mine", "--config-dir", "own")
    assert done.returncode == 2
    assert error in done.stderr
    assert "- override /backend@_global_.backend: <name>" in done.stderr


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_answered_at_once_with_one_line_and_the_valid_names(
    what: str, run_program: Run, tmp_path: Path
) -> None:
    args, error, hint = MISTAKES[what]
    started = children_cpu_seconds()
    result = run_program(*args)
    took = children_cpu_seconds() - started
    lines = result.stderr.splitlines()
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert error in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]
    assert took < CPU_SECONDS
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_mistake_shows_its_traceback_on_demand(run_program: Run) -> None:
    assert "Traceback" in run_program("mode=benchmrk", env={"LQMF_DEBUG": "1"}).stderr

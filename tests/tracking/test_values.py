"""A run as params and metrics: names, limits and secrets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lqmf_runner.config import ServerConfig
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.redaction import redact, redact_text
from lqmf_runner.tracking.values import (
    conditions_digest,
    model_metrics,
    prompts_dataset,
    prompts_name,
    run_params,
)
from tests.support.runs.sample import sample_model


def test_metrics_carry_the_documented_names() -> None:
    model = sample_model("a", users=(1, 8))
    metrics = model_metrics(model)
    assert metrics["c8/ttft_s.p50"] == model.loads[1].ttft_s.p50
    assert metrics["c1/output_tokens_per_s"] == model.loads[0].output_tokens_per_s
    assert metrics["quality/heuristic.score"] == 0.9
    assert metrics["memory/rss_mb"] == 270.4
    assert metrics["load_time_s"] == 0.61
    assert "quality/perplexity" not in metrics  # unknown
    assert not [name for name in metrics if "shape" in name or "partial" in name]


def test_params_are_flat_and_tell_only_what_is_not_as_usual() -> None:
    config = {
        "model": {"name": "m", "path": None},
        "mode": {"name": "benchmark", "concurrency": [2, 7], "sampling": {"max_tokens": 63}},
        "backend": {**dataclasses.asdict(GgufBackend(n_ctx=99))},
        "server": dataclasses.asdict(ServerConfig()),
    }
    assert run_params(config) == {
        "model.name": "m",
        "mode.name": "benchmark",
        "mode.concurrency": "[2, 7]",
        "mode.sampling.max_tokens": "63",
        "backend.format": "gguf",
        "backend.n_ctx": "99",
    }


def test_a_run_of_several_models_does_not_name_one_that_was_not_run() -> None:
    config = {
        "models": ["a", "b"],
        "model": {"name": "usual", "package": "weights"},
        "mode": {"name": "compare"},
        "backend": {**dataclasses.asdict(GgufBackend(n_ctx=99))},
    }
    assert run_params(config) == {"models": '["a", "b"]', "mode.name": "compare", "backend.n_ctx": "99"}


def test_long_values_are_shortened() -> None:
    params = run_params({"prompts": {"system": "x" * 10_000}, "k" * 300: "v"})
    assert len(params["prompts.system"]) == 6000
    assert params["prompts.system"].endswith("…")
    assert max(map(len, params)) == 250


def test_secrets_are_redacted_and_numbers_are_not() -> None:
    config = {
        "backend": {"api_key": "sk-1", "hf_token": "hf-2", "apiKey": "sk-3", "api_key_env": "OPENAI_API_KEY"},
        "db": {"password": "hunter2", "client_secret": "s3", "keys": ["a1b2"]},
        "tracking": {"uri": "https://user:pa:ss@host:5000/x?token=t0k&x=1"},
        "mode": {"max_tokens": 64, "monkeys": 3, "calibration_tokens": 512},
        "list": [{"secret": "deep"}, "postgresql://u:p4ss@db/x"],
    }
    text = json.dumps(run_params(config))
    for secret in ("sk-1", "hf-2", "sk-3", "hunter2", "s3", "a1b2", "pa:ss", "user", "t0k", "deep", "p4ss"):
        assert secret not in text
    clean = redact(config)
    assert clean["mode"] == config["mode"]
    assert clean["backend"]["api_key_env"] == "OPENAI_API_KEY"
    assert clean["tracking"]["uri"] == "https://***@host:5000/x?token=***&x=1"


def test_plain_text_stays() -> None:
    text = "mode=benchmark model=a@b sqlite:///mlruns/mlflow.db http://host:5000/a"
    assert redact_text(text) == text


def test_conditions_are_what_figures_depend_on() -> None:
    config = {
        "prompts": {"name": "p"},
        "mode": {"warmup": 2, "concurrency": [1, 4]},
        "fidelity": {"text": "a", "cache_dir": "x"},
    }
    same = conditions_digest(config, ["model=a", "mode.concurrency=[1,4]"])
    assert conditions_digest(config | {"mode": {"warmup": 2, "concurrency": [8]}}, ["model=b"]) == same
    assert conditions_digest(config | {"tracking": {"uri": "elsewhere"}}, []) == same
    for other, overrides in (
        ({"prompts": {"name": "q"}}, []),
        ({"mode": {"warmup": 3}}, []),
        ({"reference": "r"}, []),
        ({}, ["backend.n_ctx=512"]),
    ):
        assert conditions_digest(config | other, overrides) != same
    measured = config | {"reference": "r"}
    moved = measured | {"fidelity": {"text": "a", "cache_dir": "y"}}
    assert conditions_digest(measured, []) == conditions_digest(moved, [])


def test_the_prompts_of_a_batch_are_its_file(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("id,prompt\n1,hi\n")
    config = {"mode": {"name": "batch", "input": str(path)}, "prompts": {"name": "general", "entries": [{}]}}
    first = prompts_dataset(config)
    assert first is not None
    assert first["name"] == prompts_name(config) == "sheet.csv"
    path.write_text("id,prompt\n1,ho\n")
    second = prompts_dataset(config)
    path.unlink()
    third = prompts_dataset(config)
    assert second is not None
    assert third is not None
    assert len({first["digest"], second["digest"], third["digest"]}) == 3
    other = prompts_dataset({**config, "mode": {"name": "benchmark"}})
    assert other is not None
    assert other["name"] == "general"

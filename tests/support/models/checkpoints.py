"""Tiny checkpoints for tests of loading: edited copies, GPTQ packed by hand beside its float32 twin, bitsandbytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, Any]


def read_tensors(folder: Path) -> Tensors:
    """The stored tensors by name."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def store_tensors(folder: Path, tensors: Tensors) -> None:
    """Replace the stored tensors."""
    from safetensors.torch import save_file

    copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    """Change config.json; None removes a key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def changed(source: Path, target: Path, change: Callable[[Tensors], Tensors], **config: Any) -> Path:
    """A copy of a checkpoint with other tensors and settings."""
    shutil.copytree(source, target)
    store_tensors(target, change(read_tensors(source)))
    edit_config(target, **config)
    return target


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    """A change that drops every tensor whose name has one of the parts."""
    return lambda tensors: {n: t for n, t in tensors.items() if not any(part in n for part in parts)}


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """[n, m] small integers to [n · bits / 32, m] int32: a little-endian stream of bits along the first axis."""
    n, m = values.shape
    stream = ((values[:, None, :].astype(np.uint8) >> np.arange(bits)[None, :, None]) & 1).reshape(-1, 32, m)
    words = (stream.astype(np.uint64) << np.arange(32, dtype=np.uint64)[None, :, None]).sum(1)
    return words.reshape(n * bits // 32, m).astype(np.uint32).view(np.int32)


def make_gptq(
    source: Path,
    target: Path,
    *,
    bits: int = 4,
    stored: str = "gptq",
    label: str | None = "gptq",
    head: bool = False,
) -> tuple[Path, Path]:
    """A symmetric GPTQ checkpoint with groups of 32, and its twin in float32 with the very same weights.

    Args:
        stored: "gptq" or "gptq_v2", how the zero points lie in the file.
        label: what the settings say about that; None for nothing.
        head: pack the output head too.
    """
    import torch

    top, size = 2**bits - 1, 32
    packed: Tensors = {}
    plain: Tensors = {}
    for key, weight in read_tensors(source).items():
        if not key.endswith("proj.weight") and not (head and key == "lm_head.weight"):
            packed[key], plain[key] = weight, weight.float()
            continue
        groups = weight.float().numpy().T.reshape(-1, size, weight.shape[0])  # [groups, rows in a group, out]
        scales = np.maximum(2 * np.abs(groups).max(1) / top, 1e-3).astype(np.float16)
        zeros = np.full(scales.shape, 2 ** (bits - 1))
        values = np.clip(np.round(groups / scales[:, None].astype(np.float32)) + zeros[:, None], 0, top)
        back = (values - zeros[:, None]) * scales[:, None].astype(np.float32)
        lying = zeros - 1 if stored == "gptq" else zeros
        prefix = key.removesuffix("weight")
        rows, out = groups.shape[0] * size, weight.shape[0]
        packed[f"{prefix}qweight"] = torch.from_numpy(pack(values.reshape(rows, out).astype(np.int64), bits))
        packed[f"{prefix}qzeros"] = torch.from_numpy(np.ascontiguousarray(pack(lying.T, bits).T))
        packed[f"{prefix}scales"] = torch.from_numpy(scales)
        packed[f"{prefix}g_idx"] = torch.arange(rows, dtype=torch.int32) // size
        plain[key] = torch.from_numpy(back.reshape(rows, out).T.copy()).float()
    settings = {"bits": bits, "group_size": size, "sym": True, "desc_act": False, "quant_method": "gptq"}
    if label is not None:
        settings["checkpoint_format"] = label
    changed(source, target, lambda tensors: packed, quantization_config=settings)
    twin = changed(source, target.with_name(f"{target.name}_twin"), lambda tensors: plain, dtype="float32")
    return target, twin


def make_bnb(source: Path, target: Path, **options: Any) -> Path:
    """The checkpoint quantized by bitsandbytes; `options` are those of `BitsAndBytesConfig`."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    shutil.copytree(source, target)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=BitsAndBytesConfig(**options)
    )
    model.save_pretrained(target)
    return target


def stored_as(dtype: str) -> Callable[[Tensors], Tensors]:
    """A change that calls the bytes of packed 4-bit weights numbers of another type."""
    import torch

    def change(tensors: Tensors) -> Tensors:
        for key in {name.split(".quant_state.")[0] for name in tensors if ".quant_state." in name}:
            tensors[key] = tensors[key].contiguous().view(-1).view(getattr(torch, dtype)).reshape(-1, 1)
        return tensors

    return change

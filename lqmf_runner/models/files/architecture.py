"""Checks a checkpoint's tensor table against its config.json, for architectures whose tensors are known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ModelUnusableError
from ...formats.stored import named, refuse_missing
from .safetensors import StoredTensor

_NORMS = ("input_layernorm", "post_attention_layernorm")
_FAMILIES: dict[str, tuple[str, ...]] = {
    "llama": _NORMS,
    "mistral": _NORMS,
    "qwen2": _NORMS,
    "qwen3": (*_NORMS, "self_attn.q_norm", "self_attn.k_norm"),
    "gemma": _NORMS,
    "gemma2": (*_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm"),
}
"""`model_type` → the norms of a layer. The other weights of a layer are the same in all of these."""
_TIED = {"gemma", "gemma2"}  # unless config.json says otherwise
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def check_architecture(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], bits: float) -> None:
    """Refuse a checkpoint that lacks a tensor of its architecture, has a layer too many, or a weight of another shape.

    Other architectures pass: loading is strict as well.

    Args:
        bits: nominal bits of packed weights.

    Raises:
        ModelUnusableError: it names the first tensors and says how many there are.
    """
    norms = _FAMILIES.get(str(config.get("model_type")))
    layers = config.get("num_hidden_layers")
    if norms is None or not isinstance(layers, int):
        return
    stored = _by_plain_name(tensors)
    shapes = _expected(config, norms, layers)
    refuse_missing(name for name in shapes if not _holds(stored, name))
    over = [name for name in tensors if (place := _LAYER.search(name)) and int(place[1]) >= layers]
    if over:
        raise ModelUnusableError(
            f"config.json says {layers} layers, {len(over)} tensors are of further ones: {named(over)}",
            hint="fetch the model's files again, or correct num_hidden_layers",
        )
    wrong = [
        f"{name} is {found}, not {'×'.join(map(str, shape))}"
        for name, shape in shapes.items()
        if shape is not None and (found := _other_shape(stored, name, shape, bits))
    ]
    if wrong:
        raise ModelUnusableError(
            f"the shape of {len(wrong)} tensor{'s do' if len(wrong) > 1 else ' does'} not fit config.json: {wrong[0]}",
            hint="fetch the model's files again, or convert it again",
        )


def _by_plain_name(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """A checkpoint of the model without its head has no `model.` in front."""
    return {
        name if name.startswith(("model.", "lm_head.")) else f"model.{name}": t for name, t in tensors.items()
    }


def _expected(
    config: Mapping[str, Any], norms: tuple[str, ...], layers: int
) -> dict[str, tuple[int, ...] | None]:
    """Name → shape; None where config.json leaves the shape to a default."""

    def shape(*sizes: object) -> tuple[int, ...] | None:
        known = tuple(size for size in sizes if isinstance(size, int))
        return known if len(known) == len(sizes) else None

    hidden, inner = config.get("hidden_size"), config.get("intermediate_size")
    heads, width = config.get("num_attention_heads"), config.get("head_dim")
    queries, keys = _product(heads, width), _product(config.get("num_key_value_heads"), width)
    rows = shape(config.get("vocab_size"), hidden)
    expected = {"model.embed_tokens.weight": rows, "model.norm.weight": shape(hidden)}
    if not config.get("tie_word_embeddings", config.get("model_type") in _TIED):
        expected["lm_head.weight"] = rows
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for norm in norms:
            expected[f"{prefix}{norm}.weight"] = shape(width if norm.startswith("self_attn") else hidden)
        expected |= {
            f"{prefix}self_attn.q_proj.weight": shape(queries, hidden),
            f"{prefix}self_attn.k_proj.weight": shape(keys, hidden),
            f"{prefix}self_attn.v_proj.weight": shape(keys, hidden),
            f"{prefix}self_attn.o_proj.weight": shape(hidden, queries),
            f"{prefix}mlp.gate_proj.weight": shape(inner, hidden),
            f"{prefix}mlp.up_proj.weight": shape(inner, hidden),
            f"{prefix}mlp.down_proj.weight": shape(hidden, inner),
        }
        if config.get("model_type") == "qwen2":
            expected |= {f"{prefix}self_attn.{name}_proj.bias": None for name in "qkv"}
    return expected


def _product(a: object, b: object) -> int | None:
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def _packed_name(name: str) -> str:
    return name.removesuffix("weight") + "qweight"


def _holds(stored: Mapping[str, StoredTensor], name: str) -> bool:
    return name in stored or (name.endswith(".weight") and _packed_name(name) in stored)


def _other_shape(stored: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...], bits: float) -> str:
    """The stored shape, or the number of weights of a packed one, if it is not `shape`; empty if it is."""
    tensor = stored.get(name)
    if tensor is None:
        packed = stored[_packed_name(name)].shape
        rows = int(packed[0] * 32 // bits)
        return "" if (packed[1], rows) == shape else f"{packed[1]}×{rows}"
    if any(f"{name}.{part}" in stored for part in ("absmax", "quant_map")):
        weights = 2 * tensor.nbytes
        return "" if weights == shape[0] * shape[1] else f"{weights} weights"
    return "" if tensor.shape == shape else "×".join(map(str, tensor.shape))

"""Recognises a Hugging Face folder and works out its format, size and parameters from config and weight headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import ModelUnusableError
from ...formats import Format, labels, recognise
from ...formats.base import Recognised
from ..found import FoundModel
from .architecture import check_architecture
from .safetensors import StoredTensor, read_bytes, read_json, read_tensors, weight_files
from .stand_ins import file_instead

OLD_SETTINGS = "quantize_config.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
_TOKENIZER = re.compile(r"tokenizer\.json|vocab.*|.+\.(model|tiktoken)|tokeniz.+\.py")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.(weight|qweight)$")


def inspect_folder(folder: Path, *, trust_remote_code: bool = False) -> FoundModel:
    """What the Hugging Face checkpoint in `folder` is.

    Raises:
        ModelUnusableError: it is damaged, of an unknown format, or refused as unsafe.
    """
    config = read_json(folder / "config.json")
    if not trust_remote_code:
        refuse_remote_code(folder, config)
    files = weight_files(folder)
    if not files:
        _refuse_no_safetensors(folder)
    tensors: dict[str, StoredTensor] = {}
    places: dict[str, Path] = {}
    for file in files:
        found = read_tensors(file)
        tensors.update(found)
        places.update(dict.fromkeys(found, file))
    if not tensors:
        raise ModelUnusableError("its weight files hold no tensors")
    quantization = quantization_settings(folder, config, tensors)
    format, recognised = _format_of(quantization)
    method, bits = recognised.method, recognised.bits
    if format.check_stored is not None:
        format.check_stored(tensors, quantization or {}, lambda name: read_bytes(places[name], name))
    check_architecture(config, tensors, bits)
    _check_tokenizer(folder)
    stored = sum(t.nbytes for t in tensors.values())
    parameters = format.count_parameters(tensors, bits)
    if format.unquantized:
        method, bits = _plain_method(tensors.values())
    text_config = config.get("text_config")
    text = text_config if isinstance(text_config, dict) else config
    return FoundModel(
        name=folder.name,
        path=str(folder),
        format=format.name,
        method=method,
        architecture=_architecture(config),
        bits=bits,
        bits_per_weight=round(8 * stored / max(parameters, 1), 3),
        size_mb=round(sum(f.stat().st_size for f in files) / 1e6, 3),
        parameters=parameters,
        weight_bytes=stored - _unread_embedding(tensors),
        context_length=_integer(text.get("max_position_embeddings")),
    )


def refuse_remote_code(folder: Path, config: dict[str, Any]) -> None:
    """Raises: ModelUnusableError: the model or its tokenizer asks for code that comes with it."""
    found = ["config.json"] if config.get("auto_map") else []
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file() and read_json(tokenizer).get("auto_map"):
        found.append(tokenizer.name)
    if found:
        raise ModelUnusableError(
            f"it wants to run Python code that comes with it (auto_map in {' and '.join(found)})",
            hint="if you trust its author, set backend.trust_remote_code=true",
        )


def quantization_settings(
    folder: Path, config: dict[str, Any], names: Iterable[str]
) -> dict[str, Any] | None:
    """The checkpoint's quantization settings; None if it is not quantized.

    auto-gptq left them to quantize_config.json, which counts only where there are packed weights.

    Raises:
        ModelUnusableError: the settings are damaged.
    """
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization is not None and not isinstance(quantization, dict):
        raise ModelUnusableError("config.json is damaged: quantization_config is no object")
    old = folder / OLD_SETTINGS
    if quantization is None and old.is_file() and any(name.endswith(".qweight") for name in names):
        return {"quant_method": "gptq", **read_json(old)}
    return quantization


def _format_of(quantization: dict[str, Any] | None) -> tuple[Format, Recognised]:
    """The first format that recognises how the checkpoint is quantized."""
    if recognised := recognise(quantization):
        return recognised
    kind = (quantization or {}).get("quant_method")
    raise ModelUnusableError(
        f"its quantization method, {kind!r}, is not supported", hint=f"supported: {labels()}"
    )


def _refuse_no_safetensors(folder: Path) -> None:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise ModelUnusableError(
            f"it has only pickle weights ({pickles[0]}), which can run code when they are loaded",
            hint="get the model's safetensors version, or convert it where you trust it",
        )
    raise ModelUnusableError(
        "it has a config.json but no weights", hint="download it again, *.safetensors included"
    )


def _check_tokenizer(folder: Path) -> None:
    names = [p.name for p in folder.iterdir() if _TOKENIZER.fullmatch(p.name)]
    if not names:
        raise ModelUnusableError(
            "it has no tokenizer (tokenizer.json, tokenizer.model or vocab.json with merges.txt)",
            hint="copy the tokenizer's files from the model that it was made from",
        )
    for name in names:
        if instead := file_instead(folder / name):
            raise ModelUnusableError(f"{name} is {instead}")


def _plain_method(tensors: Iterable[StoredTensor]) -> tuple[str, float]:
    """The element type that most weights have."""
    totals: dict[str, int] = {}
    for tensor in tensors:
        totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.elements
    main = max(totals, key=lambda dtype: totals[dtype])
    if main not in _DTYPE_NAMES:
        raise ModelUnusableError(
            f"its weights are stored as {main}, but config.json does not say how they are quantized",
            hint=f"supported: {labels()}",
        )
    return _DTYPE_NAMES[main], {"F64": 64.0, "F32": 32.0}.get(main, 16.0)


def _unread_embedding(tensors: dict[str, StoredTensor]) -> int:
    if not any(_HEAD.search(name) for name in tensors):
        return 0  # tied: the table is the output head too
    return sum(t.nbytes for name, t in tensors.items() if _EMBEDDING.search(name))


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    return str(config.get("model_type", ""))


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

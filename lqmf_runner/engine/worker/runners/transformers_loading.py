"""Loads a Hugging Face checkpoint onto the GPU or into main memory, in a dtype that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import BitsAndBytesConfig

from ....errors import DoesNotFitError, LqmfError, MissingDependencyError, ModelUnusableError
from ....formats import get_format
from ....models import FoundModel
from ....models.load import load_checkpoint
from ....types import ModelSpec
from .int8 import UNROUNDED, keep_activations


def load_model(
    spec: ModelSpec, config: Any, found: FoundModel, notes: list[str]
) -> tuple[Any, str, torch.dtype]:
    """The model, its device ("cuda" or "cpu") and the dtype of what is not quantized.

    Args:
        notes: gets a sentence where it is not loaded as was asked for.

    Raises:
        DoesNotFitError: with the numbers.
        ModelUnusableError: its files are not whole, or of no use to transformers.
        MissingDependencyError: its format needs a package that is not installed.
    """
    options = spec.options
    asked = options.get("device", "auto")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ModelUnusableError("there is no CUDA GPU that torch can use", hint="use backend.device=cpu")
    on_gpu = torch.cuda.is_available() and asked != "cpu"
    dtype = _dtype(options.get("dtype", "auto"), on_gpu)
    if not on_gpu:
        dtype = _fit_weights(spec, found, dtype, notes)
    try:
        return _from_pretrained(spec, config, dtype, on_gpu, notes)
    except torch.OutOfMemoryError as error:
        if on_gpu and options.get("fallback", True):
            notes.append("the model did not fit on the GPU: it runs on the CPU")
            torch.cuda.empty_cache()
            dtype = _fit_weights(spec, found, _dtype(options.get("dtype", "auto"), on_gpu=False), notes)
            return _from_pretrained(spec, config, dtype, False, notes)
        raise DoesNotFitError(
            f"'{spec.name}' does not fit on the GPU", hint="unload another model"
        ) from error
    except MemoryError as error:
        raise DoesNotFitError(f"'{spec.name}' does not fit in memory", hint="unload another model") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"'{spec.name}' needs a package that is not installed: {error}",
            hint=get_format(spec.format).install,
        ) from error
    except LqmfError:
        raise
    except Exception as error:
        raise ModelUnusableError(
            f"transformers cannot load '{spec.name}': {type(error).__name__}: {error}",
            hint="the files may be damaged, or made for another version of transformers",
        ) from error


def _from_pretrained(
    spec: ModelSpec, config: Any, dtype: torch.dtype, on_gpu: bool, notes: list[str]
) -> tuple[Any, str, torch.dtype]:
    options = spec.options
    arguments: dict[str, Any] = {"dtype": dtype, "config": config}
    if on_gpu:
        arguments["device_map"] = options.get("device_map", "auto")
    if spec.format == "bnb":
        arguments["quantization_config"] = _bnb_config(config, options, dtype)
    model = load_checkpoint(
        Path(spec.path),
        notes=notes,
        trust_remote_code=options.get("trust_remote_code", False),
        **arguments,
    )
    # A checkpoint that is already quantized keeps the dtype it was saved in; what is not quantized has to follow ours.
    packed = _packed(model)
    repacked = not on_gpu and (
        spec.format == "gptq" or any(hasattr(p, "quant_state") for p in model.parameters())
    )
    for parameter in model.parameters():
        if parameter.is_floating_point() and id(parameter) not in packed:
            parameter.data = parameter.data.to(dtype, copy=repacked)
    if repacked:
        _copy_small_tensors(model)
    if spec.format == "bnb" and not on_gpu and not options.get("llm_int8") and keep_activations(model):
        notes.append(UNROUNDED)
    return model.eval(), "cuda" if on_gpu else "cpu", dtype


def _copy_small_tensors(model: Any) -> None:
    """Copy what lies beside weights that the kernels pack anew: code books, group indices.

    The file stays mapped, with the old weights, as long as one tensor lies in it.
    """
    copies: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for module in model.modules():
        states = [vars(p.quant_state) for p in module.parameters(recurse=False) if hasattr(p, "quant_state")]
        for holder in (vars(module), module._buffers, *states):
            for name, value in holder.items():
                if type(value) is torch.Tensor and value.numel():
                    key = value.data_ptr(), value.shape
                    holder[name] = copies.setdefault(key, value.clone())


def _packed(model: Any) -> set[int]:
    """The ids of parameters that hold packed bytes, whose element type may say that they are floats."""
    return {id(p) for p in model.parameters() if hasattr(p, "quant_state") or hasattr(p, "SCB")}


def _dtype(name: str, on_gpu: bool) -> torch.dtype:
    """float16 on a GPU. On a CPU bfloat16 where it has instructions for it, else float32."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if on_gpu:
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _fit_weights(spec: ModelSpec, found: FoundModel, dtype: torch.dtype, notes: list[str]) -> torch.dtype:
    """The dtype whose weights fit into main memory: the asked one, else half its size where that may be chosen.

    Raises:
        DoesNotFitError: with the numbers.
    """
    free = psutil.virtual_memory().available
    quantized = spec.format in ("bnb", "gptq") and not spec.options.get("quantize_on_load")
    needed = found.size_mb * 1e6 if quantized else float(found.parameters * dtype.itemsize)
    if needed < free:
        return dtype
    if not quantized and dtype == torch.float32 and needed / 2 < free and spec.options.get("fallback", True):
        notes.append("the model does not fit in memory as float32: it runs in bfloat16, which is slower here")
        return torch.bfloat16
    raise DoesNotFitError(
        f"'{spec.name}' needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
        hint="unload another model, or use a smaller quantization",
    )


def _bnb_config(config: Any, options: dict[str, Any], dtype: torch.dtype) -> Any:
    """How to load a bitsandbytes checkpoint, or how to quantize an unquantized one while loading it.

    The compute dtype is the one that is fast here, whatever machine the checkpoint was made on.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        stored["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
        return None
    bits = options.get("quantize_on_load")
    return BitsAndBytesConfig(
        load_in_4bit=bits == "4bit",
        load_in_8bit=bits == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )

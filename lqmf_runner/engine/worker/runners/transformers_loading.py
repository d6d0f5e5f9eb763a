"""Loads a Hugging Face checkpoint onto the GPU or into main memory, in a dtype that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from ....cgroup import available_memory
from ....errors import DoesNotFitError, LqmfError, MissingDependencyError, ModelUnusableError, UserInputError
from ....formats import get_format
from ....models import FoundModel
from ....models.load import load_checkpoint
from ....nvml import GpuMemory
from ....types import ModelSpec
from .cpu.int8 import UNROUNDED, keep_activations
from .gpu.split import plan_split


def load_model(
    spec: ModelSpec, config: Any, found: FoundModel, notes: list[str], reserved: int = 0
) -> tuple[Any, str, torch.dtype]:
    """The model, its device ("cuda" or "cpu") and the dtype of what is not quantized.

    Args:
        notes: gets a sentence where it is not loaded as was asked for.
        reserved: bytes of main memory, or of each GPU, that its weights are to leave free.

    Raises:
        DoesNotFitError: with the numbers.
        ModelUnusableError: its files are not whole, or of no use to transformers.
        MissingDependencyError: its format needs a package that is not installed.
    """
    options = spec.options
    asked = options.get("device", "auto")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ModelUnusableError("there is no CUDA GPU that torch can use", hint="use backend.device=cpu")
    on_gpu, dtype = device_and_dtype(options)
    if not on_gpu:
        dtype = _fit_weights(spec, found, dtype, notes, reserved)
    try:
        return _from_pretrained(spec, config, found, dtype, on_gpu, notes, reserved)
    except torch.OutOfMemoryError as error:
        if on_gpu and options.get("fallback", True):
            notes.append("the model did not fit on the GPU: it runs on the CPU")
            torch.cuda.empty_cache()
            _, dtype = device_and_dtype({**options, "device": "cpu"})
            dtype = _fit_weights(spec, found, dtype, notes, reserved)
            return _from_pretrained(spec, config, found, dtype, False, notes, reserved)
        raise DoesNotFitError(
            f"'{spec.name}' does not fit on the GPU", hint="unload another model"
        ) from error
    except MemoryError as error:
        raise DoesNotFitError(f"'{spec.name}' does not fit in memory", hint="unload another model") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"'{spec.name}' needs a package that is not installed: {error.name or error}",
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
    spec: ModelSpec,
    config: Any,
    found: FoundModel,
    dtype: torch.dtype,
    on_gpu: bool,
    notes: list[str],
    reserved: int,
) -> tuple[Any, str, torch.dtype]:
    options = spec.options
    arguments: dict[str, Any] = {"dtype": dtype, "config": config}
    if on_gpu:
        gpus = [gpu.less(reserved / 1e6) for gpu in _gpus()]
        arguments |= device_arguments(options, weight_bytes(spec, found, dtype) / 1e6, gpus, notes)
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


def device_arguments(
    options: Mapping[str, Any], weights_mb: float, gpus: Sequence[GpuMemory], notes: list[str]
) -> dict[str, Any]:
    """`device_map` and `max_memory` of `from_pretrained`; a note tells the plan where there is a choice."""
    asked, limits = options.get("device_map", "auto"), options.get("gpu_memory_mb")
    if limits is not None and len(limits) != len(gpus):
        raise UserInputError(f"backend.gpu_memory_mb has {len(limits)} numbers, there are {len(gpus)} GPUs")
    if limits is not None:
        return {"device_map": asked, "max_memory": {i: int(mb * 1e6) for i, mb in enumerate(limits)}}
    if asked != "auto" or len(gpus) < 2:
        return {"device_map": asked}
    plan = plan_split(weights_mb, gpus)
    notes.append(plan.describe(gpus))
    if len(plan.used) == 1:
        return {"device_map": {"": plan.used[0]}}
    room = {i: int(mb * 1e6) for i, mb in enumerate(plan.room_mb)}
    return {"device_map": "auto", "max_memory": {**room, "cpu": available_memory()}}


def placement(device_map: Mapping[str, Any]) -> dict[str, int]:
    """How many of the model's layers each device holds, from what accelerate has done."""
    layers = [str(device) for name, device in device_map.items() if name.rpartition(".")[2].isdigit()]
    return {device: layers.count(device) for device in dict.fromkeys(layers)}


def free_for_cache(layers: Mapping[str, int], reserved: int = 0) -> int:
    """Bytes that the KV cache of all layers may take, where each layer's part lies on the layer's GPU.

    Args:
        layers: how many each GPU holds, by its number; nothing where all are on the current one.
        reserved: bytes that it leaves free on each GPU.
    """
    free = {
        name: max(torch.cuda.mem_get_info(int(name))[0] - reserved, 0) for name in layers if name.isdigit()
    }
    if not free:
        return max(int(torch.cuda.mem_get_info()[0]) - reserved, 0)
    return min(int(free[name] * sum(layers.values()) / layers[name]) for name in free)


def _gpus() -> list[GpuMemory]:
    """The GPUs that torch sees, in its order."""
    return [
        GpuMemory(torch.cuda.get_device_name(i), *(n / 1e6 for n in torch.cuda.mem_get_info(i)))
        for i in range(torch.cuda.device_count())
    ]


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


def device_and_dtype(options: Mapping[str, Any]) -> tuple[bool, torch.dtype]:
    """Whether a model goes to a GPU, and the dtype of what is not quantized.

    By default float16 on a GPU; on a CPU bfloat16 where it has instructions for it, else float32.
    """
    on_gpu = torch.cuda.is_available() and options.get("device", "auto") != "cpu"
    if (name := options.get("dtype", "auto")) != "auto":
        return on_gpu, getattr(torch, name)
    if on_gpu:
        return True, torch.float16
    return False, torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _stored_quantized(spec: ModelSpec) -> bool:
    return spec.format in ("bnb", "gptq") and not spec.options.get("quantize_on_load")


def weight_bytes(spec: ModelSpec, found: FoundModel, dtype: torch.dtype) -> float:
    """Bytes of the weights once they are loaded."""
    return found.size_mb * 1e6 if _stored_quantized(spec) else float(found.parameters * dtype.itemsize)


def _fit_weights(
    spec: ModelSpec, found: FoundModel, dtype: torch.dtype, notes: list[str], reserved: int
) -> torch.dtype:
    """The dtype whose weights fit into main memory: the asked one, else half its size where that may be chosen.

    Raises:
        DoesNotFitError: with the numbers.
    """
    free = max(available_memory() - reserved, 0)
    needed = weight_bytes(spec, found, dtype)
    if needed < free:
        return dtype
    if (
        not _stored_quantized(spec)
        and dtype == torch.float32
        and needed / 2 < free
        and spec.options.get("fallback", True)
    ):
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

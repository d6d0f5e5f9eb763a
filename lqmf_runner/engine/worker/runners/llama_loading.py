"""Loading a GGUF with llama.cpp: what it is, onto the GPU as far as it fits, and what llama.cpp says meanwhile."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

from ....errors import ModelUnusableError, UserInputError
from ....install import pip_line
from ....models import FoundModel, inspect_model
from ....models.files.gguf import read_header, split_parts
from ....nvml import GpuMemory, visible_gpus
from ....types import ModelInfo, ModelSpec
from .base import Progress, loaded_info
from .gpu.split import plan_split
from .llama_metadata import chat_templates

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}  # enum llama_split_mode


def prepared(spec: ModelSpec) -> FoundModel:
    """The model's file as it was found, and llama.cpp ready to load it."""
    _route_log()
    found = inspect_model(Path(spec.path))
    if found.problem:
        raise ModelUnusableError(
            f"'{spec.name}' cannot be loaded: {found.problem}", hint="fetch the file again"
        )
    llama_cpp.llama_backend_init()
    return found


# Their kernels on a CPU give a row the same result in every batch; K-quants do with few rows and no repacking.
_EXACT_TYPES = {"Q4_0", "Q4_1", "Q5_0", "Q8_0"}


def matrix_types(path: str) -> frozenset[str]:
    """The types of all matrices of a GGUF, its other parts included."""
    tensors = (tensor for part in _parts(path) for tensor in read_header(part).tensors)
    return frozenset(tensor.type for tensor in tensors if len(tensor.shape) > 1)


def _parts(path: str) -> list[Path]:
    return list(split_parts(Path(path), read_header(Path(path))))


def cache_values(path: str) -> int:
    """Numbers in the keys and values of a token in all layers, as a GGUF's header says; 0 where it does not."""
    metadata = read_header(Path(path)).metadata
    architecture = metadata.get("general.architecture")

    def number(name: str) -> int:
        value = metadata.get(f"{architecture}.{name}", 0)
        return value if isinstance(value, int) else 0

    heads = number("attention.head_count") or 1
    width = number("embedding_length") // heads * (number("attention.head_count_kv") or heads)
    return 2 * width * number("block_count")


def has_k_quants(types: frozenset[str]) -> bool:
    """Whether K-quants are among these types."""
    return any(name.endswith("_K") for name in types)


def why_one_at_a_time(types: frozenset[str], options: Mapping[str, Any], on_gpu: bool) -> str:
    """Why a batch changes the numbers of a model with these types; empty if it does not."""
    if on_gpu:
        return "kernels for a GPU depend on the batch"
    if options.get("flash_attn") or options.get("kv_type") == "q8_0":
        return "flash attention depends on how a prompt is divided"
    others = {name for name in types - _EXACT_TYPES if not name.endswith("_K")}
    return f"kernels for {', '.join(sorted(others))} depend on the batch" if others else ""


def load_model(
    spec: ModelSpec,
    path: str,
    progress: Progress,
    notes: list[str],
    *,
    repack: bool = True,
    reserved: int = 0,
) -> tuple[Any, bool]:
    """The model, with as many layers on the GPU as fit, and whether any are there.

    Args:
        reserved: bytes of each GPU that the plan of several leaves free.
        repack: let llama.cpp lay weights out for kernels that take four rows at a time.
    """
    options = spec.options
    gpu = llama_cpp.llama_supports_gpu_offload() and options.get("device") != "cpu"
    if options.get("device") == "cuda" and not gpu:
        raise ModelUnusableError(
            "this build of llama-cpp-python has no GPU support",
            hint="use backend.device=cpu, or rebuild it: CMAKE_ARGS=-DGGML_CUDA=on "
            + pip_line("--force-reinstall", "--no-cache-dir", "--no-deps", "llama-cpp-python==0.3.36"),
        )
    params = llama_cpp.llama_model_default_params()
    params.use_mmap = options.get("use_mmap", True)
    params.use_extra_bufts = repack

    @llama_cpp.llama_progress_callback
    def report(share: float, _: Any) -> bool:
        progress(share)
        return True  # go on

    params.progress_callback = report
    if gpu and (gpus := [gpu.less(reserved / 1e6) for gpu in visible_gpus()]):
        split_over_gpus(params, options, gpus, sum(part.stat().st_size for part in _parts(path)) / 1e6, notes)
    layers = options.get("n_gpu_layers", -1) if gpu else 0
    params.n_gpu_layers = layers
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model and gpu and options.get("fallback", True):
        for layers in (24, 12, 6, 0):
            params.n_gpu_layers = layers
            model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
            if model:
                notes.append(
                    f"the model did not fit on the GPU: {layers or 'no'} layers are there, the rest on the CPU"
                )
                break
    if not model:
        raise ModelUnusableError(
            f"llama.cpp cannot load '{spec.name}': {_last_log_line()}",
            hint="the file may be damaged or of an architecture this llama-cpp-python does not know",
        )
    return model, layers != 0


def split_over_gpus(
    params: Any, options: Mapping[str, Any], gpus: Sequence[GpuMemory], weights_mb: float, notes: list[str]
) -> None:
    """Say in llama.cpp's parameters which GPUs the model goes to; a note tells where there is a choice."""
    given, main = options.get("tensor_split"), options.get("main_gpu")
    named = len(given or ()), (main or 0) + 1
    if max(named) > len(gpus):
        raise UserInputError(
            f"backend.tensor_split or backend.main_gpu names {max(named)} GPUs, there are {len(gpus)}"
        )
    if len(gpus) == 1:
        return
    plan = plan_split(weights_mb, gpus)
    mode = options.get("split_mode", "layer")
    if given is None and (mode == "none" or main is not None or len(plan.used) == 1):
        params.split_mode = _SPLIT_MODES["none"]
        params.main_gpu = max(range(len(gpus)), key=lambda i: gpus[i].free_mb) if main is None else main
        notes.append(f"all of it goes to GPU {params.main_gpu} ({gpus[params.main_gpu].name})")
        return
    params.split_mode = _SPLIT_MODES[mode]
    shares = plan.shares if given is None else given
    if not any(shares):  # nothing is free: llama.cpp divides it, and says what fails
        return
    values = [*shares, *[0.0] * (llama_cpp.llama_max_devices() - len(shares))]
    params.tensor_split = (ctypes.c_float * len(values))(*values)
    if given is None:
        notes.append(plan.describe(gpus))


def model_info(
    spec: ModelSpec,
    model: Any,
    found: FoundModel,
    n_ctx: int,
    max_slots: int,
    on_gpu: bool,
    notes: Sequence[str],
) -> ModelInfo:
    """What a loaded GGUF is."""
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    bos = llama_cpp.llama_vocab_bos(vocabulary) if llama_cpp.llama_vocab_get_add_bos(vocabulary) else -1
    return loaded_info(
        spec,
        found,
        n_ctx=n_ctx,
        n_vocab=llama_cpp.llama_vocab_n_tokens(vocabulary),
        max_slots=max_slots,
        device="gpu" if on_gpu else "cpu",
        dtype=found.method,
        chat_template=bool(chat_templates(model)),
        bos=bos if bos >= 0 else None,
        batch_invariant=spec.options.get("batch_invariant", False),
        notes=notes,
    )


_log_lines: list[str] = []


@llama_cpp.llama_log_callback
def _keep_log(level: int, text: bytes, _: Any) -> None:
    if level >= 3 and (line := text.decode(errors="replace").strip()):  # warnings and errors
        _log_lines.append(line)
        del _log_lines[:-20]
        if os.environ.get("LQMF_DEBUG") == "1":
            print(line, flush=True)


def _route_log() -> None:
    """llama.cpp's own log stays out of the terminal; its errors are kept for our messages."""
    llama_cpp.llama_log_set(_keep_log, ctypes.c_void_p(0))


def _last_log_line() -> str:
    return next((line for line in reversed(_log_lines) if "error" in line.lower()), "no reason given")

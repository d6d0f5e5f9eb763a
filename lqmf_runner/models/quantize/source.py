"""Loads the model to be quantized, in the child process: a Hugging Face folder, or a GGUF that is dequantized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cgroup import available_memory
from ...formats import get_format
from ..files.gguf import read_header
from .base import Job, Report

if TYPE_CHECKING:
    import numpy as np


def load_source(job: Job, report: Report) -> Any:
    """The source as a transformers model in bfloat16 that can be saved."""
    import torch
    from transformers import AutoModelForCausalLM

    from ..load import check_report, load_checkpoint

    if not get_format(job.source_format).single_file:
        report("reading the source", 0, 0)
        return load_checkpoint(Path(job.source), dtype=torch.bfloat16)
    report("dequantizing the GGUF", 0, 0)
    file = Path(job.source)
    model, loaded = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
    )
    check_report(loaded)
    # The weights are plain floats now; the remaining quantization settings of the GGUF would prevent saving them.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for parameter in model.parameters():  # not model.to(): it would also round the rotary frequencies
        parameter.data = parameter.data.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    return model


def load_tokenizer(job: Job) -> Any | None:
    """The source's tokenizer with its chat template; None for a model without one."""
    from transformers import AutoTokenizer

    file = Path(job.source)
    if get_format(job.source_format).single_file:
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except (KeyError, NotImplementedError):  # a GGUF without a vocabulary
            return None
        _restore_pre_tokenizer(tokenizer, read_header(file).metadata.get("tokenizer.ggml.pre"))
        return tokenizer
    if not any((file / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    return AutoTokenizer.from_pretrained(file)


def _restore_pre_tokenizer(tokenizer: Any, kind: str | None) -> None:
    """How text is split before merging, where transformers does not take it from the GGUF.

    "smollm" makes each digit a piece of its own; without that the same text becomes other tokens than in llama.cpp.
    """
    if kind != "smollm":
        return
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )


def source_folder(job: Job, report: Report) -> Path:
    """The source as a Hugging Face folder: the one that was given, or the GGUF dequantized into `scratch`."""
    if not get_format(job.source_format).single_file:
        return Path(job.source)
    folder = Path(job.scratch) / "source"
    save(load_source(job, report), load_tokenizer(job), folder)
    return folder


def source_logits(folder: Path, tokens: list[int]) -> np.ndarray | None:
    """Logits of the unquantized model in float32; None where it would take more than half of the free memory."""
    import torch

    from ..load import load_checkpoint
    from .proof import forward_logits

    needed = 2 * sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    if needed > available_memory() // 2:
        return None
    return forward_logits(load_checkpoint(folder, dtype=torch.float32), tokens)


def save(model: Any, tokenizer: Any | None, folder: Path) -> None:
    """Write weights, config, tokenizer and chat template, without the name of the source's place on this machine."""
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)

"""Loads a checkpoint with transformers and refuses an incomplete one: no missing tensor is initialised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelUnusableError
from ..formats.stored import named, refuse_missing
from .files.checkpoint import quantization_settings
from .files.safetensors import INDEX, SINGLE, entry_file, read_bytes, read_json, read_tensors, weight_files

_SPARE = re.compile(r"rotary_emb\.inv_freq$|(^|\.)(attn|attention)\.(masked_)?bias$|\.position_ids$")


def load_checkpoint(
    folder: Path, *, config: Any = None, notes: list[str] | None = None, **arguments: Any
) -> Any:
    """The causal language model in `folder`.

    Args:
        config: transformers' configuration; read from the folder if it is None.
        notes: gets a sentence that names stored tensors which the architecture does not have.
        arguments: of `from_pretrained`.

    Raises:
        ModelUnusableError: tensors are missing, mis-shaped, or belong to no part of the model; it names them.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if config is None:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=arguments.get("trust_remote_code", False)
        )
    entry = entry_file(folder)
    tensors = [name for file in weight_files(folder) for name in read_tensors(file)]
    settings = quantization_settings(folder, read_json(folder / "config.json"), tensors)
    if settings is not None and getattr(config, "quantization_config", None) is None:
        config.quantization_config = settings
    if entry is not None and entry.name not in (INDEX, SINGLE):
        config.transformers_weights = entry.name
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # the report has them, and names them
        **arguments,
    )
    if hasattr(model.config, "transformers_weights"):
        del model.config.transformers_weights  # a saved copy has a file of the usual name
    check_report(report)
    _check_unexpected(model, report["unexpected_keys"], folder, notes)
    return model


def check_report(report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint if transformers' loading report lists initialised tensors.

    Raises:
        ModelUnusableError: tensors are missing or mis-shaped.
    """
    refuse_missing(report["missing_keys"])
    wrong = sorted(
        (str(name), tuple(stored), tuple(needed)) for name, stored, needed in report["mismatched_keys"]
    )
    if wrong:
        name, stored, needed = wrong[0]
        raise ModelUnusableError(
            f"{len(wrong)} tensors have the wrong shape: {name} is {stored}, the model needs {needed}",
            hint="fetch the model's files again, or convert it again",
        )


def _check_unexpected(model: Any, names: Iterable[str], folder: Path, notes: list[str] | None) -> None:
    """A stored tensor of a module that the model has would change the answer. One of an unknown module is only
    noted.
    """
    unexpected = {name for name in names if not _SPARE.search(name)}
    unexpected -= _zero_biases(folder, unexpected)
    if not unexpected:
        return
    modules = {name for name, _ in model.named_modules()}
    if used := {name for name in unexpected if name.rpartition(".")[0] in modules}:
        raise ModelUnusableError(
            f"{len(used)} stored tensors have no place in the architecture: {named(used)}",
            hint="config.json is of another model or version; fetch the model's files again",
        )
    if notes is not None:
        notes.append(
            f"the architecture has no place for {len(unexpected)} stored tensors: {named(unexpected)}"
        )


def _zero_biases(folder: Path, names: Iterable[str]) -> set[str]:
    """Biases that are all zero, which old GPTQ checkpoints store for every layer."""
    wanted = {name for name in names if name.endswith(".bias")}
    if not wanted:
        return set()
    found = ((file, name) for file in weight_files(folder) for name in read_tensors(file) if name in wanted)
    return {name for file, name in found if not any(read_bytes(file, name))}

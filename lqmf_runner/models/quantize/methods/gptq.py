"""GPTQ (Frantar et al. 2022) through GPT-QModel: second-order rounding, guided by calibration text."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....config import QuantizeMode
from ....errors import UserInputError
from ....formats import get_format
from ...found import FoundModel
from ..base import Job, QuantizationMethod, Report
from .calibration import SHIPPED, read_documents

if TYPE_CHECKING:
    import numpy as np


class GptqMethod(QuantizationMethod):
    """Quantizes layer by layer.

    The reference is the source with each linear layer replaced by the dequantized weights in memory, computed in
    float32; the reloaded model runs its own kernel, some of which compute in bfloat16, hence the wider limit.
    """

    name = "gptq"
    max_relative_rms = 0.05

    def parameters(self, mode: QuantizeMode) -> dict[str, Any]:
        if mode.bits not in (2, 3, 4, 8):
            raise UserInputError(
                f"mode.bits={mode.bits} is not possible for gptq", hint="choose 2, 3, 4 or 8"
            )
        if mode.group_size != -1 and (mode.group_size < 16 or mode.group_size > 1024):
            raise UserInputError(
                f"mode.group_size={mode.group_size} is not possible",
                hint="choose 32, 64 or 128, or -1 for none",
            )
        if mode.calibration_samples < 1 or mode.calibration_tokens < 1:
            raise UserInputError("mode.calibration_samples and mode.calibration_tokens must be at least 1")
        calibration = "shipped"
        if mode.calibration is not None:
            text = "\n".join(read_documents(Path(mode.calibration)))
            # Its content, so that another text under the same name is another setting, and no path of this machine.
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            calibration = f"{Path(mode.calibration).name} ({digest})"
        return {
            "bits": mode.bits,
            "group_size": mode.group_size,
            "calibration": calibration,
            "calibration_samples": mode.calibration_samples,
            "calibration_tokens": mode.calibration_tokens,
        }

    def suffix(self, parameters: dict[str, Any]) -> str:
        return f"gptq_{parameters['bits']}bit"

    def disk_bytes(self, source: FoundModel, parameters: dict[str, Any]) -> int:
        dequantized = 2 * source.parameters if get_format(source.format).single_file else 0
        return dequantized + source.parameters * (parameters["bits"] + 4) // 8 + 50_000_000

    def make(self, job: Job, report: Report) -> np.ndarray:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # with fewer its thread pool refuses to start
        import numpy as np
        import torch

        from ..proof import proof_tokens
        from ..source import load_tokenizer, source_folder, source_logits

        out = Path(job.out)
        tokenizer = load_tokenizer(job)
        if tokenizer is None:
            raise UserInputError(
                "the source has no tokenizer", hint="gptq needs one for its calibration text"
            )
        folder = source_folder(job, report)
        report("quantizing layers", 0, 0)
        quantized = _quantize(folder, tokenizer, job, report)
        # Taken before the save, which may convert the tensors in place.
        weights = _dequantized(quantized.model)
        report("saving", 0, 0)
        for parameter in quantized.model.parameters():  # what is not quantized: embedding, norms, head
            parameter.data = parameter.data.to(torch.bfloat16)
        quantized.model.config.dtype = torch.bfloat16
        quantized.save(str(out))
        tokenizer.save_pretrained(out)
        _remove_traces(out)
        vocabulary = quantized.model.config.get_text_config().vocab_size
        del quantized
        report("computing reference logits", 0, 0)
        tokens = proof_tokens(out, vocabulary)
        source = source_logits(folder, tokens)
        if source is not None:
            np.save(Path(job.scratch) / "source.npy", source)
        return _reference(folder, weights, tokens)

    def logits(self, folder: Path, parameters: dict[str, Any]) -> np.ndarray:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
        import torch

        from ...load import load_checkpoint
        from ..proof import forward_logits, proof_tokens

        dtype = torch.float16 if torch.cuda.is_available() else torch.float32
        model = load_checkpoint(folder, dtype=dtype)
        return forward_logits(model, proof_tokens(folder, model.config.vocab_size))


class _LayerProgress:
    def __init__(self, report: Report, layers: int) -> None:
        self.report, self.layers = report, layers

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:
            self.report("quantizing layers", layer_idx + 1, self.layers)


def _quantize(folder: Path, tokenizer: Any, job: Job, report: Report) -> Any:
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    from .calibration import samples

    settings = job.parameters
    config = QuantizeConfig(
        bits=settings["bits"],
        group_size=settings["group_size"],
        desc_act=False,  # measured: act-order inside groups gives the better model, where there are groups
        act_group_aware=settings["group_size"] > 0,
        device="cuda:0" if torch.cuda.is_available() else "cpu",
        offload_to_disk=False,  # the proof reads the layers from memory
    )
    # Many CPUs have no bfloat16 arithmetic and would need five times as long with it.
    dtype = "auto" if torch.cuda.is_available() else torch.float32
    model = GPTQModel.load(str(folder), config, dtype=dtype)
    _check_group_size(model.model, settings["group_size"])
    path = SHIPPED if job.calibration is None else Path(job.calibration)
    chosen = samples(
        tokenizer,
        read_documents(path),
        count=settings["calibration_samples"],
        length=settings["calibration_tokens"],
    )
    model.layer_callback = _LayerProgress(report, model.model.config.get_text_config().num_hidden_layers)
    model.quantize([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in chosen], batch_size=1)
    return model


def _check_group_size(model: Any, group_size: int) -> None:
    import torch

    head = model.get_output_embeddings()
    widths = {m.in_features for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head}
    odd = sorted(width for width in widths if group_size > 0 and width % group_size)
    if odd:
        fitting = [str(g) for g in (128, 64, 32, 16) if all(width % g == 0 for width in widths)]
        raise UserInputError(
            f"mode.group_size={group_size} does not divide this model's layers, which are {odd[0]} wide",
            hint=f"choose one of: {', '.join([*fitting, '-1'])}",
        )


def _dequantized(model: Any) -> dict[str, Any]:
    """Name → float32 weight, (out, in), of every quantized layer."""
    weights = {}
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            weight = module.dequantize_weight()
            if module.qzero_format() == 1:  # the stored zero point is one less than the real one
                weight = weight - module.scales[module.g_idx.long()]
            weights[name] = weight.T.float().cpu()
    return weights


def _reference(folder: Path, weights: dict[str, Any], tokens: list[int]) -> np.ndarray:
    import torch

    from ...load import load_checkpoint
    from ..proof import forward_logits

    model = load_checkpoint(folder, dtype=torch.float32)
    for name, weight in weights.items():
        model.get_submodule(name).weight.data = weight[:, : model.get_submodule(name).in_features]
    return forward_logits(model, tokens)


def _remove_traces(folder: Path) -> None:
    """Take out the paths of this machine and the log that GPT-QModel writes into the result."""
    (folder / "quant_log.csv").unlink(missing_ok=True)
    for name in ("config.json", "quantize_config.json"):
        file = folder / name
        if not file.exists():
            continue
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        for settings in (config, config.get("quantization_config", {})):
            settings.get("meta", {}).pop("offload_to_disk_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n")

"""bitsandbytes: 4-bit NormalFloat (Dettmers et al. 2023) and 8-bit LLM.int8 (Dettmers et al. 2022)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....config import QuantizeMode
from ....errors import UserInputError
from ....formats import get_format
from ...found import FoundModel
from ..base import Job, QuantizationMethod, Report

if TYPE_CHECKING:
    import numpy as np


class BnbMethod(QuantizationMethod):
    """Quantizes while loading; needs no calibration."""

    name = "bnb"

    def parameters(self, mode: QuantizeMode) -> dict[str, Any]:
        if mode.bits not in (4, 8):
            raise UserInputError(f"mode.bits={mode.bits} is not possible for bnb", hint="choose 4 or 8")
        if mode.bits == 8:
            return {"bits": 8}
        return {"bits": 4, "quant_type": "nf4", "double_quant": mode.double_quant}

    def suffix(self, parameters: dict[str, Any]) -> str:
        return f"bnb_{parameters['bits']}bit"

    def disk_bytes(self, source: FoundModel, parameters: dict[str, Any]) -> int:
        dequantized = 2 * source.parameters if get_format(source.format).single_file else 0
        # The embedding and the head stay in 16 bits: for a small model they are a large part of it.
        return dequantized + int(source.parameters * (1.5 if parameters["bits"] == 8 else 1.0)) + 50_000_000

    def make(self, job: Job, report: Report) -> np.ndarray:
        import numpy as np
        import torch
        from transformers import BitsAndBytesConfig

        from ...load import load_checkpoint
        from ..proof import proof_tokens
        from ..source import load_tokenizer, save, source_folder, source_logits

        folder = source_folder(job, report)
        report("quantizing", 0, 0)
        if job.parameters["bits"] == 8:
            settings = BitsAndBytesConfig(load_in_8bit=True)
        else:
            settings = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=job.parameters["quant_type"],
                bnb_4bit_use_double_quant=job.parameters["double_quant"],
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
        model = load_checkpoint(
            folder, quantization_config=settings, dtype=torch.bfloat16, device_map=_device_map()
        )
        report("saving", 0, 0)
        # Before the first forward pass: that may repack the weights in place, and then they cannot be saved.
        save(model, load_tokenizer(job), Path(job.out))
        report("computing reference logits", 0, 0)
        tokens = proof_tokens(Path(job.out), model.config.vocab_size)
        reference = _forward(model, tokens)
        del model
        source = source_logits(folder, tokens)
        if source is not None:
            np.save(Path(job.scratch) / "source.npy", source)
        return reference

    def logits(self, folder: Path, parameters: dict[str, Any]) -> np.ndarray:
        import torch

        from ...load import load_checkpoint
        from ..proof import proof_tokens

        model = load_checkpoint(folder, dtype=torch.bfloat16, device_map=_device_map())
        return _forward(model, proof_tokens(folder, model.config.vocab_size))


def _device_map() -> str:
    import torch

    return "auto" if torch.cuda.is_available() else "cpu"


def _forward(model: Any, tokens: list[int]) -> np.ndarray:
    from ..proof import forward_logits

    with warnings.catch_warnings():
        # One line a layer about a cast that is intended.
        warnings.filterwarnings("ignore", message="MatMul8bitLt")
        return forward_logits(model, tokens)

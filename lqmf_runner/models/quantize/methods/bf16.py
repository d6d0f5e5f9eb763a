"""bfloat16: the unquantized Hugging Face folder that other methods start from, and the reference they are held to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....config import QuantizeMode
from ...found import FoundModel
from ..base import Job, QuantizationMethod, Report

if TYPE_CHECKING:
    import numpy as np


class Bf16Method(QuantizationMethod):
    """Stores the weights as bfloat16."""

    name = "bf16"

    def parameters(self, mode: QuantizeMode) -> dict[str, Any]:
        return {"dtype": "bfloat16"}

    def suffix(self, parameters: dict[str, Any]) -> str:
        return "bf16"

    def disk_bytes(self, source: FoundModel, parameters: dict[str, Any]) -> int:
        return 2 * source.parameters + 50_000_000

    def make(self, job: Job, report: Report) -> np.ndarray:
        import torch

        from ..proof import forward_logits, proof_tokens
        from ..source import load_source, load_tokenizer, save

        model = load_source(job, report)
        report("saving", 0, 0)
        save(model, load_tokenizer(job), Path(job.out))
        report("computing reference logits", 0, 0)
        # In float32 both before and after, so that the comparison is one of the weights alone.
        return forward_logits(model.to(torch.float32), proof_tokens(Path(job.out), model.config.vocab_size))

    def logits(self, folder: Path, parameters: dict[str, Any]) -> np.ndarray:
        import torch

        from ...load import load_checkpoint
        from ..proof import forward_logits, proof_tokens

        model = load_checkpoint(folder, dtype=torch.float32)
        return forward_logits(model, proof_tokens(folder, model.config.vocab_size))

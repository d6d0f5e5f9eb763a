"""Proves a quantized model: its logits after a reload in a fresh process against those it had in memory.

A checkpoint can be damaged by the very act of saving it (bitsandbytes repacks 4-bit weights in place at their first
forward pass on some CPUs; saved after that, they reload as noise without any error), so nothing is published
that has not been read back and compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import QuantizationError
from .base import Proof

if TYPE_CHECKING:
    import numpy as np

PROOF_TOKENS = 128
PROOF_TEXT = """\
The lighthouse keeper wrote down the weather three times a day, and in forty years she missed it only twice: once when
her son was born, and once when the stairs were under water. "You never know who will ask," she said. In 1987 somebody
did. A young oceanographer, looking for wind records from before the satellites, found eleven shelves of notebooks.
Each line had the hour, the barometer in millibars, the direction of the swell and, now and then, a remark: two ships
passed at noon; fog until 4; the cat is back. Within a year the numbers had corrected a model of the North Atlantic,
and the remarks had become a small book that is still in print.
"""


def proof_tokens(folder: Path, vocabulary: int) -> list[int]:
    """The fixed token sequence: a text through the model's tokenizer, or spread ids where it has none."""
    if (folder / "tokenizer.json").exists() or (folder / "tokenizer.model").exists():
        from transformers import AutoTokenizer

        tokens = list(AutoTokenizer.from_pretrained(folder).encode(PROOF_TEXT, add_special_tokens=False))
        if len(tokens) >= PROOF_TOKENS // 4:
            return tokens[:PROOF_TOKENS]
    return [(i * 7919 + 13) % vocabulary for i in range(PROOF_TOKENS)]


def forward_logits(model: Any, tokens: list[int]) -> np.ndarray:
    """Logits of a transformers model over `tokens`, (tokens, vocabulary), float32."""
    import torch

    with torch.inference_mode():
        output = model(torch.tensor([tokens], device=model.device), use_cache=False)
    logits: np.ndarray = output.logits[0].float().cpu().numpy()
    return logits


def compare(reference: np.ndarray, logits: np.ndarray, source: np.ndarray | None = None) -> Proof:
    """Measure how far `logits` are from `reference`, and from those of the source model where there are any.

    Raises:
        QuantizationError: the shapes differ or a value is not finite.
    """
    import numpy as np

    if reference.shape != logits.shape:
        raise QuantizationError(
            f"the reloaded model gives logits of shape {logits.shape}, not {reference.shape}"
        )
    if not np.isfinite(reference).all() or not np.isfinite(logits).all():
        raise QuantizationError("the quantized model gives logits that are not finite")
    centred = reference - reference.mean(axis=-1, keepdims=True)
    difference = logits - logits.mean(axis=-1, keepdims=True) - centred
    scale = float(np.sqrt(np.mean(np.square(centred))))
    if scale == 0:
        raise QuantizationError("the quantized model gives the same logit for every token")
    kld, top1 = _divergence(reference, logits)
    source_kld, source_top1 = _divergence(source, logits) if source is not None else (None, None)
    return Proof(
        tokens=len(reference),
        max_abs_diff=float(np.abs(logits - reference).max()),
        relative_rms=float(np.sqrt(np.mean(np.square(difference)))) / scale,
        kld=kld,
        top1_agreement=top1,
        source_kld=source_kld,
        source_top1_agreement=source_top1,
    )


def require(proof: Proof, limit: float) -> None:
    """Raises: QuantizationError: the reloaded model is not the one that was made."""
    if not proof.relative_rms <= limit:
        raise QuantizationError(
            f"the saved model does not give the logits it should: relative error {proof.relative_rms:.3g} "
            f"(at most {limit:g}), top-1 agreement {proof.top1_agreement:.1%} over {proof.tokens} tokens",
            hint="nothing was kept; report this with the versions of torch, transformers and the method's package",
        )


def _divergence(reference: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Mean KL divergence in nats and top-1 agreement."""
    import numpy as np

    log_p, log_q = _log_softmax(reference), _log_softmax(logits)
    kld = float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)))
    return kld, float(np.mean(reference.argmax(-1) == logits.argmax(-1)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised

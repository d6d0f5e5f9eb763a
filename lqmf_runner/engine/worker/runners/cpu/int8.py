"""bitsandbytes' 8-bit layers on a CPU: 8-bit weights, activations left as they are.

LLM.int8() (Dettmers et al. 2022) also rounds activations to 8 bits, and takes features with an outlier out of that for
all rows of a batch when one row has an outlier there: a request's answer then depends on concurrency. What this
buys on a GPU is the 8-bit product; on most CPUs bitsandbytes computes that in float32 anyway. Leaving activations as
they are costs nothing there, makes answers independent of concurrency, and stays nearer to the unquantized model.
Figures of fidelity are then better than LLM.int8()'s: `backend.llm_int8=true` computes as bitsandbytes does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

UNROUNDED = (
    "8-bit weights are computed with unrounded activations here: its fidelity is better than what bitsandbytes' own "
    "LLM.int8() gives, on a GPU for example; backend.llm_int8=true computes as bitsandbytes does"
)
"""The note of a model whose forward pass was replaced."""


def keep_activations(model: Any) -> bool:
    """Replace the forward pass of a loaded model's 8-bit layers by `x · Wᵀ` with W in 8 bits and x in its own dtype.

    Returns:
        Whether the model has such layers.
    """
    from bitsandbytes.nn import Linear8bitLt

    layers = [module for module in model.modules() if isinstance(module, Linear8bitLt)]
    for layer in layers:
        layer.forward = _Int8WeightLinear(layer)
    return bool(layers)


class _Int8WeightLinear:
    """y = (x · W₈ᵀ) · row_max / 127 + bias, W₈ of shape [out, in], row_max the largest |weight| of each row, [out]."""

    def __init__(self, layer: Any) -> None:
        held = layer.weight if layer.weight.CB is not None else layer.state
        self._weight: torch.Tensor = held.CB
        self._scale: torch.Tensor = held.SCB / 127.0
        self._bias: torch.Tensor | None = layer.bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out = linear(x, self._weight.to(x.dtype)).mul_(self._scale)
        return out if self._bias is None else out.add_(self._bias)

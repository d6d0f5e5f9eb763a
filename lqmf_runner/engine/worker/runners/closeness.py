"""How far two ways to compute the same are apart."""

from __future__ import annotations

import torch

ROUNDING = 0.01
"""The most that two good ways differ by in a 16-bit dtype; a way that is wrong gives noise."""


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference as a fraction of the largest expected number; NaN if there is one on either side."""
    off = (found.float() - expected.float()).abs().max()
    return float(off / expected.float().abs().max())

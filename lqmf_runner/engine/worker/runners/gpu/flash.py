"""Flash attention of decode tokens over slots of unequal length, with the kernel that torch brings for CUDA.

The kernel reads of each slot what it holds, where attention with a mask reads up to the longest and drops the rest.

Not proved on a GPU: the tests have the kernel's documented meaning in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Varlen = Callable[..., torch.Tensor]
"""`torch.nn.attention.varlen.varlen_attn`."""

_DTYPES = (torch.float16, torch.bfloat16)
_LEAST_CAPABILITY = (8, 0)  # Ampere


def find_kernel(device: torch.device, dtype: torch.dtype) -> Varlen | None:
    """The kernel, if it supports the GPU and the dtype."""
    if device.type != "cuda" or dtype not in _DTYPES:
        return None
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return None
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


class FlashDecode:
    """One query for each slot, the slots in their order from 0."""

    def __init__(self, kernel: Varlen, positions: torch.Tensor, capacity: int, n_keys: int) -> None:
        """Keep what is the same in all steps.

        Args:
            positions: of the query of each slot, [1, n_slots], read anew in each step.
            capacity: tokens of a slot in the cache.
            n_keys: the most keys of a slot.
        """
        self._kernel, self._positions, self._n_keys = kernel, positions, n_keys
        self._n_slots = positions.shape[1]
        self._first_query = torch.arange(self._n_slots + 1, dtype=torch.int32, device=positions.device)
        self._first_key = self._first_query * capacity

    def __call__(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attention of query [1, heads, n_slots, head_dim] over a layer's cache; [1, n_slots, heads, head_dim]."""
        out = self._kernel(
            query[0].transpose(0, 1),
            keys[: self._n_slots].flatten(0, 1),
            values[: self._n_slots].flatten(0, 1),
            self._first_query,
            self._first_key,
            1,
            self._n_keys,
            scale=scaling,
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=True,
            seqused_k=(self._positions[0] + 1).int(),
        )
        return out[None]

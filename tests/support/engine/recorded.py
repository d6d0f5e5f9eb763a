"""Recording the operations of torch on a CPU, which stands for the capture of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class RecordingCapture:
    """Records work, and computes the same operations again on the same tensors.

    As in a CUDA graph no Python of the work runs in a replay, a number that Python would have to read is refused,
    and the result is one tensor. What Python derived from values while recording stays as it was.
    """

    def __init__(self) -> None:
        self.n_recorded = 0

    def __call__(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        tape = _Tape()
        with tape:
            result = work()
        self.n_recorded += 1
        return lambda: result.copy_(tape.play(result))


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def play(self, result: torch.Tensor) -> torch.Tensor:
        """What `result` is now; tensors that no recorded operation made are read as they are."""
        made: dict[int, torch.Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for func, args, kwargs, out in self._calls:
            again = func(*tree_map(now, args), **tree_map(now, kwargs))
            for before, after in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(before, torch.Tensor):
                    made[id(before)] = after
        return made[id(result)]

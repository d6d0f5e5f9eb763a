"""Linear layers on a CPU, those with the same input as one and with little around their kernels.

Queries, keys and values are projections of the same input, as gate and up are. The packed weights of 4-bit layers are
put together and one call computes all. The kernels compute every output by itself, so the results are the same.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from ..closeness import ROUNDING, difference

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers that get the same input in transformers' models, in the order of their calls."""


class Joint(ABC):
    """Layers with the same input as one function: x of shape [..., in_features] to [..., sum of `sizes`].

    The layers have been called before: 4-bit layers pack their weights then.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers
        self.sizes = [layer.out_features for layer in layers]

    @staticmethod
    @abstractmethod
    def takes(layers: Sequence[Any]) -> bool:
        """Whether these layers can be combined."""

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of all layers side by side."""

    @abstractmethod
    def adopt_weights(self) -> None:
        """Replace the weights of the layers by views of the weights here, so no weight is held twice. The layers keep
        working.
        """

    @abstractmethod
    def adopt_scales(self) -> None:
        """The same for scales and similar tensors. The layers alone do not work afterwards."""


class Modules(Joint):
    """Layers of any kind, each called by itself."""

    @staticmethod
    def takes(layers: Sequence[Any]) -> bool:
        return True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self._layers
        out: torch.Tensor = first(x)
        return torch.cat([out, *(layer(x) for layer in rest)], -1) if rest else out

    def adopt_weights(self) -> None:
        """Nothing is held here."""

    def adopt_scales(self) -> None:
        """Nothing is held here."""


class Bnb4bit(Joint):
    """bitsandbytes' 4-bit layers, packed for AVX-512 with bfloat16."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__(layers)
        states = [layer.weight.quant_state for layer in layers]
        self._weight = _joined([layer.weight.data for layer in layers], 0)
        self._scales = _joined([state.absmax for state in states], 1)
        self._bias = _bias(layers)
        self._shape = [sum(self.sizes), layers[0].in_features]
        self._code, self._blocksize = states[0].code, states[0].blocksize
        self._dtype = layers[0].compute_dtype
        self._kernel = torch.ops.bitsandbytes.gemv_4bit.default

    @staticmethod
    def takes(layers: Sequence[Any]) -> bool:
        from bitsandbytes.nn import Linear4bit

        if not all(isinstance(layer, Linear4bit) for layer in layers):
            return False
        states: list[Any] = [getattr(layer.weight, "quant_state", None) for layer in layers]
        if not all(getattr(state, "packing_format_for_cpu", False) for state in states):
            return False
        return _alike(
            (layer.in_features, layer.compute_dtype, layer.bias is None, state.quant_type, state.blocksize)
            for layer, state in zip(layers, states, strict=True)
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._kernel(
            x.to(self._dtype), self._weight, self._shape, self._scales, self._code, self._blocksize
        )
        if self._bias is not None:
            out += self._bias
        return out.to(x.dtype)

    def adopt_weights(self) -> None:
        for layer, weight in zip(self._layers, self._weight.split(self.sizes), strict=True):
            layer.weight.data = weight

    def adopt_scales(self) -> None:
        for layer, scales in zip(self._layers, self._scales.split(self.sizes, 1), strict=True):
            layer.weight.quant_state.absmax = scales


class Gptq4bit(Joint):
    """GPT-QModel's layers over torch's own 4-bit kernel."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__(layers)
        self._weight = _joined([layer.qweight for layer in layers], 0)
        self._scales = _joined([layer.scales_and_zeros for layer in layers], 1)
        self._bias = _bias(layers)
        self._group_size = layers[0].group_size
        order = layers[0].ret_idx
        self._order = None if torch.equal(order, torch.arange(len(order), dtype=order.dtype)) else order
        self._kernel = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    @staticmethod
    def takes(layers: Sequence[Any]) -> bool:
        from gptqmodel.nn_modules.qlinear.torch_aten_kernel import TorchAtenLinear

        if not all(isinstance(layer, TorchAtenLinear) for layer in layers):
            return False
        if any(layer.linear_mode != "inference" or layer.adapter for layer in layers):
            return False
        order = layers[0].ret_idx
        if not all(
            layer.ret_idx.shape == order.shape and torch.equal(layer.ret_idx, order) for layer in layers
        ):
            return False
        # A block of 64 outputs of the kernel must not span two layers.
        if any(layer.out_features % 64 for layer in layers[:-1]):
            return False
        return _alike((layer.in_features, layer.group_size, layer.bias is None) for layer in layers)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        if self._order is not None:
            rows = rows[:, self._order]
        out: torch.Tensor = self._kernel(rows, self._weight, self._group_size, self._scales)
        out = out.to(x.dtype).view(*x.shape[:-1], -1)
        if self._bias is not None:
            out += self._bias
        return out

    def adopt_weights(self) -> None:
        for layer, weight in zip(self._layers, self._weight.split(self.sizes), strict=True):
            layer.qweight = weight

    def adopt_scales(self) -> None:
        for layer, scales in zip(self._layers, self._scales.split(self.sizes, 1), strict=True):
            layer.scales_and_zeros = scales


class SharedInput:
    """The outputs of several layers, computed when the first of them is called and kept for the others."""

    def __init__(self, compute: Joint) -> None:
        self._compute = compute
        self._input: torch.Tensor | None = None
        self._parts: list[torch.Tensor | None] = []

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """The output of one layer for x, which is known by its identity."""
        part = self._parts[index] if x is self._input else None
        if part is None:
            self._input = x
            self._parts = list(self._compute(x).split(self._compute.sizes, -1))
            part = self._parts[index]
            assert part is not None
        self._parts[index] = None
        if not any(left is not None for left in self._parts):
            self._input = None
        return part


def simplify(model: Any, kind: type[Joint]) -> int:
    """Let the 4-bit layers of a model compute through `kind`, those with the same input together.

    Each has been called before. A layer that cannot, or that would compute something else, stays as it is.

    Returns:
        How many layers compute in this way now.
    """
    done = set[int]()
    for module in model.modules():
        for names in SAME_INPUT:
            layers = [getattr(module, name, None) for name in names]
            if None not in layers and _replace(layers, kind):
                done.update(map(id, layers))
    for module in model.modules():
        if id(module) not in done and _replace([module], kind):
            done.add(id(module))
    return len(done)


def _replace(layers: Sequence[Any], kind: type[Joint]) -> bool:
    if not kind.takes(layers):
        return False
    joint = kind(layers)
    x = torch.linspace(-1, 1, 2 * layers[0].in_features).view(1, 2, -1)
    if not difference(joint(x), torch.cat([layer(x) for layer in layers], -1)) <= ROUNDING:
        return False
    joint.adopt_weights()
    joint.adopt_scales()
    if len(layers) == 1:
        layers[0].forward = joint
        return True
    shared = SharedInput(joint)
    for index, layer in enumerate(layers):
        layer.forward = functools.partial(shared.part, index)
    return True


def _bias(layers: Sequence[Any]) -> torch.Tensor | None:
    return None if layers[0].bias is None else _joined([layer.bias for layer in layers], 0)


def _joined(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _alike(properties: Any) -> bool:
    return len(set(properties)) == 1

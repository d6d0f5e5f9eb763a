"""Llama-shaped models on a CPU as functions of tensors around the attention over slots, without module calls.

transformers runs a layer as a dozen modules and some eighty small operations. A step over one row of a small or a 4-bit
model spends more time in these than in the products of matrices. Here the same arithmetic takes half the operations:
what has the same input is one product, queries and keys are rotated together, and few modules are called. Every number
is rounded where transformers rounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import silu

from ..slot_attention import Plan, SlotAttention
from .joint import Joint, Modules

# Each with its attention window, which transformers stores in a different place for each.
_WINDOWS: dict[str, Callable[[Any], int | None]] = {
    "LlamaForCausalLM": lambda attention: None,
    "MistralForCausalLM": lambda attention: attention.config.sliding_window,
    "Qwen2ForCausalLM": lambda attention: attention.sliding_window,
}
_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


@dataclass(frozen=True)
class Layer:
    """The parts of a layer."""

    attention: Any
    window: int | None
    norm: torch.Tensor
    qkv: Joint
    out: Joint
    norm_mlp: torch.Tensor
    gate_up: Joint
    down: Joint

    def joints(self) -> tuple[Joint, ...]:
        """All its products."""
        return self.qkv, self.out, self.gate_up, self.down


def takes(model: Any) -> bool:
    """Whether a model is one of those that are written out here."""
    config = model.config
    return (
        type(model).__module__.startswith("transformers.models.")
        and type(model).__name__ in _WINDOWS
        and config.hidden_act == "silu"
        and all({name for name, _ in layer.named_children()} == _PARTS for layer in model.model.layers)
    )


class WrittenOut:
    """A model whose layers run as written here; its embedding, final norm and head are the model's own."""

    def __init__(self, model: Any, attention: SlotAttention, kind: type[Joint]) -> None:
        """Take the parts of a model that `takes` and that has been called before.

        Args:
            kind: of its 4-bit layers.
        """
        config = model.config
        self._model, self._head, self._attention = model.model, model.lm_head, attention
        window = _WINDOWS[type(model).__name__]
        self._layers = [_layer(layer, kind, window) for layer in self._model.layers]
        self._head_dim: int = self._layers[0].attention.head_dim
        self._heads = [config.num_attention_heads, config.num_key_value_heads]
        rotated = sum(self._heads) * self._head_dim
        self._sizes = [rotated, config.num_key_value_heads * self._head_dim]
        self._eps: float = config.rms_norm_eps

    def adopt(self) -> None:
        """Share all weights with the model's own layers, which alone do not work afterwards."""
        for layer in self._layers:
            for joint in layer.joints():
                joint.adopt_scales()

    def logits(self, plan: Plan, rows: torch.Tensor) -> torch.Tensor:
        """Logits of the chosen rows of the packed tokens, [n_rows, n_vocab]."""
        embedded = self._model.embed_tokens(plan.tokens)
        cos, sin = self._model.rotary_emb(embedded, position_ids=plan.positions)
        first, second = sin[0].chunk(2, -1)
        rotation = cos[0][:, None], torch.cat((-first, second), -1)[:, None]
        x = embedded[0]
        for layer in self._layers:
            x = x + layer.out(self._attended(layer, self._norm(x, layer.norm), rotation))
            gate_up = layer.gate_up(self._norm(x, layer.norm_mlp))
            gate, up = gate_up.split(layer.gate_up.sizes, -1)
            x = x + layer.down(silu(gate) * up)
        out: torch.Tensor = self._head(self._model.norm(x[rows]))
        return out

    def _attended(
        self, layer: Layer, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Attention of a layer without its last product, [n_tokens, heads · head_dim]."""
        rotated, values = layer.qkv(x).split(self._sizes, -1)
        rotated = rotated.unflatten(-1, (-1, self._head_dim))
        cos, sin = rotation
        rotated = rotated * cos + rotated.roll(self._head_dim // 2, -1) * sin
        queries, keys = rotated.split(self._heads, 1)
        values = values.unflatten(-1, (-1, self._head_dim))
        out, _ = self._attention(
            layer.attention,
            queries.transpose(0, 1)[None],
            keys.transpose(0, 1)[None],
            values.transpose(0, 1)[None],
            None,
            scaling=layer.attention.scaling,
            sliding_window=layer.window,
        )
        return out[0].flatten(1)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return weight * (wide * scale).to(x.dtype)


def _layer(layer: Any, kind: type[Joint], window: Callable[[Any], int | None]) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp

    def joint(*layers: Any) -> Joint:
        made = kind(layers) if kind.takes(layers) else Modules(layers)
        made.adopt_weights()
        return made

    return Layer(
        attention=attention,
        window=window(attention),
        norm=layer.input_layernorm.weight.data,
        qkv=joint(attention.q_proj, attention.k_proj, attention.v_proj),
        out=joint(attention.o_proj),
        norm_mlp=layer.post_attention_layernorm.weight.data,
        gate_up=joint(mlp.gate_proj, mlp.up_proj),
        down=joint(mlp.down_proj),
    )

"""4-bit layers put together on a CPU: the same numbers, and fewer calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lqmf_runner.engine.worker.runners.cpu.joint import Bnb4bit, Gptq4bit, Modules, SharedInput, simplify

from .....support.models.architectures import make_architecture

IN_FEATURES = 128


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # without and with biases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bitsandbytes_layers_give_the_same_logits(
    tmp_path: Path, architecture: str, dtype: torch.dtype
) -> None:
    folder = make_architecture(tmp_path / "model", architecture)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=settings).eval()
    alone, together = torch.tensor([[7]]), torch.tensor([list(range(3, 40))])
    with torch.inference_mode():
        before = [model(tokens, use_cache=False).logits for tokens in (alone, together)]
        n_layers = simplify(model, Bnb4bit)
        if n_layers == 0:
            pytest.skip("bitsandbytes packs its weights only on a CPU with AVX-512 and bfloat16 instructions")
        after = [model(tokens, use_cache=False).logits for tokens in (alone, together)]
    assert n_layers == 2 * 7
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # No weight is there twice.
    attention = model.model.layers[0].self_attn
    places = {
        layer.weight.data.untyped_storage().data_ptr()
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
    }
    assert len(places) == 1


def gptq_layer(out_features: int, *, seed: int, reorder: bool = False, bias: bool = False) -> Any:
    """A layer with random weights that has been called once, and so has packed them."""
    kernel = pytest.importorskip("gptqmodel.nn_modules.qlinear.torch_aten_kernel")
    random = torch.Generator().manual_seed(seed)
    layer = kernel.TorchAtenLinear(
        bits=4,
        group_size=64,
        sym=True,
        desc_act=reorder,
        in_features=IN_FEATURES,
        out_features=out_features,
        bias=bias,
        register_buffers=True,
    )
    layer.qweight = torch.randint(
        -(2**31), 2**31 - 1, layer.qweight.shape, generator=random, dtype=torch.int32
    )
    layer.scales = torch.rand(layer.scales.shape, generator=random).to(torch.bfloat16) / 16
    if bias:
        layer.bias = torch.rand(out_features, generator=random).to(torch.bfloat16)
    if reorder:
        layer.g_idx = layer.g_idx[torch.randperm(IN_FEATURES, generator=random)]
    layer.post_init()
    layer.eval()
    with torch.inference_mode():
        layer(torch.zeros(1, 1, IN_FEATURES, dtype=torch.bfloat16))
    return layer


def attention_of(**layers: Any) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return module


@pytest.mark.parametrize(
    ("sizes", "reorder", "bias"),
    [
        ((192, 64, 64), False, False),
        ((192, 64, 64), True, True),
        ((192, 48, 48), False, False),  # not put together: a block of the kernel would lie in two layers
    ],
)
def test_gptq_layers_give_the_same_output(sizes: tuple[int, ...], reorder: bool, bias: bool) -> None:
    layers = [gptq_layer(n, seed=7, reorder=reorder, bias=bias) for n in sizes]
    model = attention_of(**dict(zip(("q_proj", "k_proj", "v_proj"), layers, strict=True)))
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn(1, 5, IN_FEATURES, generator=torch.Generator().manual_seed(1)).to(dtype)
        with torch.inference_mode():
            before = [layer(x) for layer in layers]
            assert dtype == torch.float32 or simplify(model, Gptq4bit) == 3
            after = [layer(x) for layer in layers]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Doubled(Modules):
    """A kind with layers that double, or what `wrong` makes of that, and a count of calls."""

    wrong = False

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__(layers)
        self.calls = 0

    @staticmethod
    def takes(layers: Sequence[Any]) -> bool:
        return all(isinstance(layer, Doubling) for layer in layers)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([x * (3 if self.wrong else 2)] * len(self.sizes), -1)


class Wrong(Doubled):
    wrong = True


class Doubling(torch.nn.Module):
    in_features = out_features = 4
    bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_a_kind_that_computes_something_else_is_not_taken() -> None:
    def model() -> torch.nn.Module:
        return attention_of(gate_proj=Doubling(), up_proj=Doubling(), down_proj=Doubling())

    assert simplify(model(), Wrong) == 0
    assert simplify(model(), Doubled) == 3


def test_layers_with_the_same_input_are_computed_once_for_it() -> None:
    compute = Doubled([Doubling(), Doubling(), Doubling()])
    shared = SharedInput(compute)
    for count in (1, 2):
        x = torch.full((1, 1, 4), float(count))
        parts = [shared.part(index, x) for index in (0, 1, 2)]
        assert all(torch.equal(part, 2 * x) for part in parts)
        assert compute.calls == count
    x = torch.ones(1, 1, 4)
    shared.part(1, x)
    y = torch.zeros(1, 1, 4)
    assert torch.equal(shared.part(0, y), y)  # another input, before all have taken their part of the first
    assert torch.equal(shared.part(2, x), 2 * x)
    assert torch.equal(shared.part(2, x), 2 * x)  # the same layer again

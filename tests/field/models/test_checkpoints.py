"""Checkpoints that are not whole, not what they say, or packed in an unusual way: right, or refused by name.

Nothing that the architecture needs is made up, and nothing that it does not need keeps a good model from running. See
the reports AutoGPTQ #22, GPTQModel #1080 (old GPTQ taken for plain weights), vllm #53019, transformers #43429 (missing
tensors), bitsandbytes #970, transformers #41415 (packed bytes stored as floats), LLaVA #1850, transformers #24037
(quantized heads), vllm #38966 and #26343 (zero points of the other GPTQ layout), GPTQModel #904 and #905, vllm #15665
(layers that are not quantized, or in another way).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.errors import ModelUnusableError
from lqmf_runner.models import content_version, inspect_model
from lqmf_runner.models.load import load_checkpoint
from lqmf_runner.types import ModelSpec

from ...support.models.architectures import make_architecture
from ...support.models.checkpoints import (
    Tensors,
    changed,
    edit_config,
    make_bnb,
    make_gptq,
    read_tensors,
    store_tensors,
    stored_as,
    without,
)
from ...support.models.tiny import HIDDEN, LAYERS, make_checkpoint, make_tokenizer

TOLERANCE = 0.05  # of log-probabilities; wrong weights are 0.5 and more away
TOKENS = [(7 * i * i + 3 * i) % 250 + 3 for i in range(40)]
BITSANDBYTES = {"quant_method": "bitsandbytes", "load_in_4bit": True}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
HOLE = "model.layers.1.mlp.down_proj"
SKIPPED = {"llm_int8_skip_modules": ["model.layers.0.mlp.down_proj"]}  # so that the head is quantized


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The good checkpoints that tests damage copies of, by name."""
    root = tmp_path_factory.mktemp("made")
    tied = make_checkpoint(root / "tied")
    untied = make_architecture(root / "wide", "llama", n_vocab=320)  # rows that GPTQ packs without padding
    untied = changed(
        untied,
        root / "untied",
        lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].flip(0)},
        tie_word_embeddings=False,
    )
    gptq, twin = make_gptq(untied, root / "gptq")
    return {
        "tied": tied,
        "untied": untied,
        "gptq": gptq,
        "gptq_twin": twin,
        "bnb4": make_bnb(tied, root / "bnb4", **NF4),
        "bnb8": make_bnb(tied, root / "bnb8", load_in_8bit=True),
    }


def load(folder: Path, dtype: str = "float32") -> TransformersRunner:
    options = {"n_ctx": 64, "max_slots": 1, "n_threads": 1, "dtype": dtype, "device": "cpu"}
    spec = ModelSpec(name=folder.name, format=inspect_model(folder).format, path=str(folder), options=options)
    return TransformersRunner.load(spec, lambda done: None)


def logprobs(folder: Path, dtype: str = "float32") -> np.ndarray:
    """Of the next token after each of `TOKENS`."""
    logits = load(folder, dtype).step([Span(slot=0, tokens=TOKENS, start=0, n_rows=len(TOKENS))])
    found: np.ndarray = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
    return found


def differ(a: Path, b: Path, dtype: str = "float32") -> float:
    """The largest difference of two checkpoints' log-probabilities."""
    return float(np.abs(logprobs(a, dtype) - logprobs(b, dtype)).max())


def cut_shape(tensors: Tensors) -> Tensors:
    name = "model.layers.0.mlp.up_proj.weight"
    return tensors | {name: tensors[name][:100]}


def renamed(tensors: Tensors) -> Tensors:
    return {f"language_model.{name}": tensor for name, tensor in tensors.items()}


AS_IS = without("nothing")
INCOMPLETE: dict[str, tuple[str, Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "a weight": ("tied", without(HOLE), {}, f"1 tensor is missing: {HOLE}.weight"),
    "a norm": ("tied", without("model.norm"), {}, r"1 tensor is missing: model\.norm\.weight"),
    "a head": ("tied", AS_IS, {"tie_word_embeddings": False}, r"missing: lm_head\.weight"),
    "an untied head": ("untied", without("lm_head"), {}, r"missing: lm_head\.weight"),
    "names": ("tied", renamed, {}, r"20 tensors are missing: .* and 17 more"),
    "a layer": ("tied", AS_IS, {"num_hidden_layers": LAYERS + 1}, r"9 tensors are missing: model\.layers\.2"),
    "a layer over": ("tied", AS_IS, {"num_hidden_layers": 1}, r"9 tensors are of further ones: model\.layers\.1"),
    "a shape": ("tied", cut_shape, {}, r"layers\.0\.mlp\.up_proj\.weight is 100×64, not 128×64"),
    "zero points": ("gptq", without(".qzeros"), {}, r"14 tensors are missing: .*\.qzeros"),
    "scales": ("gptq", without(f"{HOLE}.scales"), {}, f"missing: {HOLE}.scales"),
    "a GPTQ weight": ("gptq", without(f"{HOLE}."), {}, f"missing: {HOLE}.weight"),
    "a packed weight": ("gptq", without(f"{HOLE}.qweight"), {}, f"missing: {HOLE}.qweight"),
    "an NF4 weight": ("bnb4", without(f"{HOLE}."), {}, f"missing: {HOLE}.weight"),
    "a quantization state": ("bnb4", without(f"{HOLE}.weight.quant_state"), {}, f"{HOLE}.weight.quant_state"),
    "row scales": ("bnb8", without(f"{HOLE}.SCB"), {}, f"missing: {HOLE}.SCB"),
    "GPTQ settings": ("gptq", AS_IS, {"quantization_config": None}, "28 of its tensors are packed"),
    "NF4 settings": ("bnb4", AS_IS, {"quantization_config": None}, "14 of its tensors are packed"),
    "int8 settings": ("bnb8", AS_IS, {"quantization_config": None}, "14 of its tensors are packed"),
    "other settings": ("gptq", AS_IS, {"quantization_config": BITSANDBYTES}, "28 of its tensors are packed"),
}  # fmt: skip


@pytest.mark.parametrize("case", INCOMPLETE)
def test_what_lacks_something_is_named_without_loading_it(
    made: dict[str, Path], tmp_path: Path, case: str
) -> None:
    source, change, config, message = INCOMPLETE[case]
    config = config | ({"layer_types": None} if "num_hidden_layers" in config else {})
    folder = changed(made[source], tmp_path / "model", change, **config)
    with pytest.raises(ModelUnusableError, match=message):
        inspect_model(folder)


STRANGE: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "weight": (without("layers.1.mlp.dense_h_to_4h.weight"), {}, r"1 tensor is missing: gpt_neox\.layers\.1\.mlp"),
    "layer": (AS_IS, {"num_hidden_layers": LAYERS + 1}, r"tensors are missing: gpt_neox\.layers\.2"),
    "shape": (
        lambda t: t | {"gpt_neox.final_layer_norm.bias": t["gpt_neox.final_layer_norm.bias"][:10]},
        {},
        r"final_layer_norm\.bias is \(10,\), the model needs \(64,\)",
    ),
    "place": (
        lambda t: t | {"gpt_neox.layers.0.mlp.dense_h_to_4h.gate": torch.ones(3)},
        {},
        r"1 stored tensors have no place in the architecture: gpt_neox\.layers\.0\.mlp\.dense_h_to_4h\.gate",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an architecture whose tensors are only known to transformers."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("strange") / "model"
    GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=260,
            hidden_size=HIDDEN,
            intermediate_size=128,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
        )
    ).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", STRANGE)
def test_loading_an_unknown_architecture_is_strict(strange: Path, tmp_path: Path, case: str) -> None:
    change, config, message = STRANGE[case]
    config = config | ({"layer_types": None} if config else {})
    folder = changed(strange, tmp_path / "model", change, **config)
    inspect_model(folder)
    with pytest.raises(ModelUnusableError, match=message):
        load_checkpoint(folder)


def test_a_layer_that_an_unknown_architecture_leaves_over_is_noted(strange: Path, tmp_path: Path) -> None:
    folder = changed(strange, tmp_path / "model", AS_IS, num_hidden_layers=1, layer_types=None)
    notes: list[str] = []
    load_checkpoint(folder, notes=notes)
    assert len(notes) == 1
    assert "gpt_neox.layers.1." in notes[0]


def test_what_a_loader_may_leave_aside_changes_nothing(made: dict[str, Path], tmp_path: Path) -> None:
    spare = changed(
        made["tied"],
        tmp_path / "spare",
        lambda tensors: {
            **tensors,
            "lm_head.weight": tensors["model.embed_tokens.weight"],
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
            "model.layers.0.self_attn.q_proj.bias": torch.zeros(HIDDEN),
        },
    )
    assert differ(spare, made["tied"]) == 0


def test_a_bias_that_the_architecture_has_no_use_for_is_refused(
    made: dict[str, Path], tmp_path: Path
) -> None:
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.ones(HIDDEN)}
    folder = changed(made["tied"], tmp_path / "model", lambda tensors: tensors | bias)
    with pytest.raises(ModelUnusableError, match=r"no place in the architecture: .*q_proj\.bias"):
        load(folder)


@pytest.mark.parametrize("kind", ["settings", "settings and file", "file"])
def test_old_gptq_is_gptq(made: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(made["gptq"], tmp_path / "model"))
    if "settings" in kind:
        settings = json.loads((folder / "config.json").read_text())["quantization_config"]
        del settings["quant_method"], settings["checkpoint_format"]
        (folder / "quantize_config.json").write_text(json.dumps(settings | {"damp_percent": 0.01}))
        edit_config(folder, quantization_config=None)
    if "file" in kind:
        (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    found = inspect_model(folder)
    assert (found.format, found.method) == ("gptq", "GPTQ 4-bit g32")
    assert differ(folder, made["gptq_twin"]) < TOLERANCE


def test_old_settings_are_part_of_the_version(made: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(made["gptq"], tmp_path / "model", AS_IS, quantization_config=None)
    versions = set()
    for bits in (4, 8):
        (folder / "quantize_config.json").write_text(json.dumps({"bits": bits, "group_size": 32}))
        versions.add(content_version(folder))
    assert len(versions) == 2


@pytest.mark.parametrize("layout", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_zero_points_tell_a_wrong_label(
    made: dict[str, Path], tmp_path: Path, bits: int, layout: str
) -> None:
    other = {"gptq": "gptq_v2", "gptq_v2": "gptq"}[layout]
    right, _ = make_gptq(made["untied"], tmp_path / "right", bits=bits, stored=layout, label=layout)
    assert inspect_model(right).bits == bits
    wrong, _ = make_gptq(made["untied"], tmp_path / "wrong", bits=bits, stored=layout, label=other)
    with pytest.raises(ModelUnusableError, match=rf"those of checkpoint_format '{layout}'.* say '{other}'"):
        inspect_model(wrong)


def test_no_label_is_the_first_layout(made: dict[str, Path], tmp_path: Path) -> None:
    inspect_model(make_gptq(made["untied"], tmp_path / "v1", label=None)[0])
    with pytest.raises(ModelUnusableError, match="those of checkpoint_format 'gptq_v2'"):
        inspect_model(make_gptq(made["untied"], tmp_path / "v2", stored="gptq_v2", label=None)[0])


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_gptq_gives_what_its_weights_say(made: dict[str, Path], tmp_path: Path, bits: int) -> None:
    assert differ(*make_gptq(made["untied"], tmp_path / "model", bits=bits)) < TOLERANCE


def test_a_gptq_head_is_refused_by_name(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelUnusableError, match=r"output head is quantized \(lm_head\.qweight\)"):
        inspect_model(make_gptq(made["untied"], tmp_path / "model", head=True)[0])


def test_gptq_layers_that_are_not_quantized_alike_are_named(made: dict[str, Path], tmp_path: Path) -> None:
    settings = json.loads((made["gptq"] / "config.json").read_text())["quantization_config"]
    plain = {name: tensor for name, tensor in read_tensors(made["untied"]).items() if ".layers.1." in name}
    skipped = changed(
        made["gptq"],
        tmp_path / "skipped",
        lambda tensors: {**without(".layers.1.")(tensors), **plain},
        quantization_config=settings | {"dynamic": {r"-:.*\.layers\.1\..*": {}}},
    )
    with pytest.raises(ModelUnusableError, match=r"7 weights are plain .*layers\.1\.mlp.* \(dynamic\)"):
        inspect_model(skipped)
    other = read_tensors(make_gptq(made["untied"], tmp_path / "8", bits=8)[0])
    mixed = changed(
        made["gptq"],
        tmp_path / "mixed",
        lambda tensors: tensors | {name: tensor for name, tensor in other.items() if ".layers.1." in name},
        quantization_config=settings | {"dynamic": {r"+:.*\.layers\.1\..*": {"bits": 8}}},
    )
    with pytest.raises(ModelUnusableError, match=r"7 packed weights contradict .* \(dynamic\)"):
        inspect_model(mixed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("storage", ["bfloat16", "float32"])
def test_packed_bytes_are_never_converted(
    made: dict[str, Path], tmp_path: Path, storage: str, dtype: str
) -> None:
    settings = json.loads((made["bnb4"] / "config.json").read_text())["quantization_config"]
    settings["bnb_4bit_quant_storage"] = storage
    folder = changed(made["bnb4"], tmp_path / "model", stored_as(storage), quantization_config=settings)
    assert differ(folder, made["bnb4"], dtype) == 0


def test_a_packed_head_has_its_vocabulary(made: dict[str, Path], tmp_path: Path) -> None:
    folder = make_bnb(made["untied"], tmp_path / "model", **NF4, **SKIPPED)
    assert read_tensors(folder)["lm_head.weight"].shape[1] == 1  # packed, with another number of rows
    assert load(folder).info.n_vocab == 320


def test_a_model_that_cannot_take_a_step_is_not_ready(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("N must be divisible by block_n")

    monkeypatch.setattr(TransformersRunner, "step", refuse)
    with pytest.raises(ModelUnusableError, match="cannot take a step: AssertionError: N must be divisible"):
        load(made["tied"])


def test_a_model_that_gives_no_numbers_is_not_ready(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["tied"], tmp_path / "model"))
    tensors = read_tensors(folder)
    tensors["model.norm.weight"][0] = float("nan")
    store_tensors(folder, tensors)
    with pytest.raises(ModelUnusableError, match="gives no numbers"):
        load(folder)

"""Tiny models of several architectures, and one set of Llama weights as a checkpoint and as a GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..models.tiny import SPECIAL, TEMPLATE, make_tokenizer, vocabulary

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": True,
}
WINDOW = 24
ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2")


def make_architecture(folder: Path, name: str) -> Path:
    """A float32 checkpoint with weights large enough for definite greedy choices."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

    kinds: dict[str, Any] = {
        "llama": (LlamaConfig, {}),
        "qwen2": (Qwen2Config, {}),
        "mistral": (MistralConfig, {"sliding_window": WINDOW}),
        "gemma2": (Gemma2Config, {"sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    }
    config_class, extra = kinds[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_class(vocab_size=len(vocabulary()), **COMMON, **extra))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 5
    model.to(torch.float32).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_gguf_twin(path: Path, checkpoint: Path) -> Path:
    """The Llama checkpoint's weights as a float32 GGUF (query and key rows in llama.cpp's rotary order)."""
    import gguf
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    heads, kv_heads = COMMON["num_attention_heads"], COMMON["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(COMMON["hidden_size"])
    writer.add_block_count(COMMON["num_hidden_layers"])
    writer.add_feed_forward_length(COMMON["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(COMMON["head_dim"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(COMMON["num_hidden_layers"]):
        for theirs, ours in names.items():
            value = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in ("attn_q", "attn_k"):
                value = _rotary_order(value, heads if ours == "attn_q" else kv_heads)
            writer.add_tensor(f"blk.{layer}.{ours}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _rotary_order(weight: Any, heads: int) -> Any:
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)

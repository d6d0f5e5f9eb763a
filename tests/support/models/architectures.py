"""Tiny models of several architectures as checkpoints, the same weights as GGUF, and plain transformers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tiny import SPECIAL, TEMPLATE, make_tokenizer, vocabulary

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
ARCHITECTURES = ("llama", "qwen2", "mistral", "mistral_window", "gemma2")


def make_architecture(folder: Path, name: str, n_vocab: int = 0) -> Path:
    """A float32 checkpoint with weights large enough for definite greedy choices.

    Its vocabulary is as large as text needs, or `n_vocab`.
    """
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

    kinds: dict[str, Any] = {
        "llama": (LlamaConfig, {}),
        "qwen2": (Qwen2Config, {}),
        "mistral": (MistralConfig, {"sliding_window": None}),  # since v0.2
        "mistral_window": (MistralConfig, {"sliding_window": WINDOW}),  # as v0.1
        "gemma2": (
            Gemma2Config,
            {
                "sliding_window": WINDOW,
                "query_pre_attn_scalar": 16,
                "attn_logit_softcapping": 1.0,  # so low that it shows in such a small model
                "final_logit_softcapping": 4.0,
            },
        ),
    }
    config_class, extra = kinds[name]
    torch.manual_seed(0)
    config = config_class(vocab_size=max(n_vocab, len(vocabulary())), **COMMON, **extra)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 5
    model.to(torch.float32).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_gguf_twin(path: Path, checkpoint: Path, *, pooling: int | None = None) -> Path:
    """The weights of a checkpoint (not `mistral_window`) as a float32 GGUF, laid out as llama.cpp wants them."""
    import gguf
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    config = model.config
    architecture = {"mistral": "llama"}.get(config.model_type, config.model_type)
    heads = {"attn_q": COMMON["num_attention_heads"], "attn_k": COMMON["num_key_value_heads"]}
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(COMMON["hidden_size"])
    writer.add_block_count(COMMON["num_hidden_layers"])
    writer.add_feed_forward_length(COMMON["intermediate_size"])
    writer.add_head_count(heads["attn_q"])
    writer.add_head_count_kv(heads["attn_k"])
    writer.add_key_length(COMMON["head_dim"])
    writer.add_value_length(COMMON["head_dim"])
    writer.add_rope_dimension_count(COMMON["head_dim"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture == "gemma2":
        writer.add_sliding_window(WINDOW)
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_file_type(0)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(pooling))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        ours = _gguf_name(name, architecture)
        if ours is None:
            continue
        value = weight.float().numpy()
        kind = ours.split(".")[-2]
        if architecture == "llama" and kind in heads:
            value = _rotary_order(value, heads[kind])
        if architecture == "gemma2" and "norm" in kind:
            value = value + 1
        writer.add_tensor(ours, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_NAMES = {
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
_GEMMA2_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def _gguf_name(name: str, architecture: str) -> str | None:
    """llama.cpp's name of a tensor; None for the head, which is the embedding here."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed or name == "lm_head.weight":
        return fixed.get(name)
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    names = _NAMES | (_GEMMA2_NORMS if architecture == "gemma2" else {})
    return f"blk.{layer}.{names[module]}.{kind}"


def _rotary_order(weight: Any, heads: int) -> Any:
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


class Reference:
    """Plain transformers on the same checkpoint: one sequence, no cache, the whole of it every time."""

    def __init__(self, folder: Path, *, nf4: bool = False) -> None:
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        quantization = {
            "quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        }
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype="float32", **(quantization if nf4 else {})
        )

    def logprobs(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Of the next token after each, shape [n_tokens, n_vocab]."""
        import torch

        with torch.no_grad():
            logits = self._model(torch.tensor([list(tokens)]), use_cache=False).logits[0]
        return torch.log_softmax(logits.double(), dim=-1).numpy()

    def greedy(self, prompt: Sequence[int], n: int, gap: float) -> list[int]:
        """The most likely continuation, as far as every choice is clear by `gap`."""
        tokens = list(prompt)
        while len(tokens) < len(prompt) + n:
            row = self.logprobs(tokens)[-1]
            second, first = np.sort(row)[-2:]
            if first - second < gap:
                break
            tokens.append(int(row.argmax()))
        return tokens[len(prompt) :]

"""Models of a few hundred kilobytes, made on the spot: a Hugging Face checkpoint and a GGUF, both Llama-shaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 64, 128, 2, 4, 2
Q8_0_BLOCK = 34  # bytes
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{{ opening }}{% if tools %}{{ tools|tojson }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


def vocabulary() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "th"]


def make_checkpoint(folder: Path, *, tied: bool = True, seed: int = 0) -> Path:
    """A checkpoint with random weights that are large enough to give definite logits."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 4
    model.to(torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_tokenizer(template: str | dict[str, str] = TEMPLATE) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary())}, merges=[("t", "h")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[2],
    )
    tokenizer.chat_template = template
    return tokenizer


def make_gguf(
    path: Path,
    *,
    seed: int = 0,
    damage: float = 0.0,
    q8_0: bool = False,
    swap_scales: bool = False,
    n_vocab: int = 0,
    pooling: int | None = None,
    template: str | list[dict[str, str]] = TEMPLATE,
    add_bos: bool = False,
    eos: int = 2,
    leave_out: Sequence[str] = (),
) -> Path:
    """A GGUF that llama.cpp and transformers can load, in float32 or Q8_0.

    Args:
        damage: noise on its weights, 1 is as much as they are.
        swap_scales: every block of a quantized weight gets the scale of its neighbour.
        n_vocab: size of the vocabulary if it is to be larger than what text needs.
        pooling: makes it a model for embeddings: 1 is the mean, 3 the last token, 4 a reranker.
        template: the chat template, or several, each with "name" and "template".
        add_bos: texts are to begin with the BOS.
        eos: the token that ends an answer.
        leave_out: keys of the metadata that the file is to lack.
    """
    import gguf

    tokens = vocabulary()
    tokens += [f"[{number}]" for number in range(n_vocab - len(tokens))]
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, len(tokens))
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(pooling))
    _add_tokenizer(writer, tokens, template, eos)
    if add_bos:
        writer.add_add_bos_token(True)
    for key in leave_out:
        del writer.kv_data[0][key]
    random, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    for name, shape in _tensors(len(tokens)):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        weights = random.normal(0, 0.08, shape) + damage * noise.normal(0, 0.08, shape)
        if not q8_0:
            writer.add_tensor(name, weights.astype(np.float32))
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(weights.astype(np.float32), kind)
        if swap_scales:
            blocks = packed.reshape(-1, Q8_0_BLOCK)  # two bytes of scale, then 32 weights
            blocks[:, :2] = np.roll(blocks[:, :2], 1, axis=0)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_speaker(path: Path, pieces: Sequence[str], template: str = TEMPLATE) -> Path:
    """A GGUF that answers everything greedily with these pieces, at most 62, a token each, and then ends.

    Only the last token decides about the next one: the attention and the layers add nothing. Pieces are ASCII, have
    more than one character and differ from each other, as each is a token of its own.
    """
    import gguf

    tokens = vocabulary()
    said = range(len(tokens), len(tokens) + len(pieces))
    tokens += [piece.replace(" ", "Ġ").replace("\n", "Ċ") for piece in pieces]
    embedding, output = np.zeros((2, len(tokens), HIDDEN), np.float32)
    embedding[:, -1] = 1.0  # after any other token comes the first piece
    for direction, token in enumerate(said):
        embedding[token] = np.eye(HIDDEN)[direction]
        output[token, direction - 1] = 1.0
    output[2, len(pieces) - 1] = 1.0  # the end
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, len(tokens))
    _add_tokenizer(writer, tokens, template, 2)
    for name, shape in _tensors(len(tokens)):
        nothing = np.ones(shape, np.float32) if len(shape) == 1 else np.zeros(shape, np.float32)
        writer.add_tensor(name, embedding if name == "token_embd.weight" else nothing)
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_shape(writer: Any, n_vocab: int) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(n_vocab)
    writer.add_file_type(0)


def _add_tokenizer(writer: Any, tokens: list[str], template: str | list[dict[str, str]], eos: int) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(template)


def _tensors(n_vocab: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the weights, in the order of the file."""
    kv = HIDDEN // HEADS * KV_HEADS
    yield "token_embd.weight", (n_vocab, HIDDEN)
    yield "output_norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_q", (HIDDEN, HIDDEN)),
            ("attn_k", (kv, HIDDEN)),
            ("attn_v", (kv, HIDDEN)),
            ("attn_output", (HIDDEN, HIDDEN)),
            ("ffn_gate", (INTERMEDIATE, HIDDEN)),
            ("ffn_up", (INTERMEDIATE, HIDDEN)),
            ("ffn_down", (HIDDEN, INTERMEDIATE)),
            ("attn_norm", (HIDDEN,)),
            ("ffn_norm", (HIDDEN,)),
        ):
            yield f"blk.{layer}.{name}.weight", shape

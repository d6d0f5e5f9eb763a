"""Checkpoints with the shape of a Llama and random weights. Only their speed means something.

Each is made once, in `quantized-models/`, on the GPU if there is one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from table import ROOT

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
}
N_CTX = 8192


def random_checkpoint(shape: str) -> Path:
    """The folder of the model in bfloat16, made in another process, which gives the GPU's memory back."""
    folder = ROOT / "quantized-models" / f"benchmark_random_{shape}"
    if not (folder / "config.json").exists():
        benchmarks = Path(__file__).parents[1]
        subprocess.run([sys.executable, "-m", "models.random_weights", shape], cwd=benchmarks, check=True)
    return folder


def _make(shape: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = ROOT / "quantized-models" / f"benchmark_random_{shape}"
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=N_CTX,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    _tokenizer().save_pretrained(folder)
    part = folder.with_suffix(".part")
    model.save_pretrained(part)
    # config.json comes last: it marks the folder as complete.
    for file in sorted(part.iterdir(), key=lambda file: file.name == "config.json"):
        file.rename(folder / file.name)
    part.rmdir()


def _tokenizer() -> Any:
    """One of bytes. Its vocabulary is smaller than the model's: texts are of no interest here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    unknown, first, last = special
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token=unknown, bos_token=first, eos_token=last, pad_token=last
    )


if __name__ == "__main__":
    _make(sys.argv[1])

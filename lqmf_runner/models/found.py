"""`FoundModel`: the properties of a model that its files show, before anything is loaded."""

from __future__ import annotations

import msgspec


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on this machine, recognised from its content. Sizes in MB are 10^6 bytes.

    Attributes:
        name: the folder's name, or the file's without its suffix.
        path: the folder or GGUF file to load.
        format: "gguf", "bnb", "gptq" or "transformers"; "unknown" where nothing was recognised.
        method: what people call it: "Q4_1", "NF4", "int8", "GPTQ 4-bit g64", "bfloat16".
        bits: nominal bits of the quantized weights.
        bits_per_weight: 8 × bytes of all stored weights / parameters.
        parameters: weights of the model as it was before quantization.
        weight_bytes: bytes of weights read for one decoded token: all stored ones, less the input embedding where
            the output head has a table of its own, and only the experts in use of a mixture of experts.
        embeddings: it is made for embeddings of texts, not to generate.
        context_length: tokens the model was made for; 0 where the files do not say.
        version: content version, see `content_version`.
        problem: why it cannot be used; empty when it can.
    """

    name: str
    path: str
    format: str = "unknown"
    method: str = ""
    architecture: str = ""
    bits: float = 0.0
    bits_per_weight: float = 0.0
    size_mb: float = 0.0
    parameters: int = 0
    weight_bytes: int = 0
    embeddings: bool = False
    context_length: int = 0
    version: str = ""
    problem: str = ""

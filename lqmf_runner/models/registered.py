"""Versions of weights, as the registry of the tracking store keeps them: what each is, and whether it still lies there.

A reference such as `qwen@champion` or `qwen@3` names one of them, by an alias or by its number.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ..errors import LqmfError, ModelNotFoundError
from ..results.lineage import Origin
from .discover import discover
from .roots import Folders
from .version import content_version

CHAMPION = "champion"
_REFERENCE = re.compile(r"(?P<name>.+)@(?P<which>[\w-]+)")


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A set of weights that was measured or served.

    Attributes:
        name: of the model, as its configuration or its file is called.
        digest: its content version, over weights, tokenizer and chat template.
        path: where they lie on the machine `host`.
        origins: what they were made from, the nearest first.
    """

    name: str
    digest: str
    format: str = ""
    method: str = ""
    bits: float = 0.0
    bits_per_weight: float = 0.0
    size_mb: float = 0.0
    path: str = ""
    host: str = ""
    origins: list[Origin] = []


class WeightsVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version in the registry.

    Attributes:
        name, number: together they name it: `qwen@3`.
        aliases: further names for the number, in alphabetical order.
        was: aliases that were on it before they were moved to where they are.
        figures: of its last run, by the key of their metric (`results.metrics.METRICS`).
        last_run: the MLflow run that measured it last; empty if it was served only.
        system, conditions: digests; figures of versions that agree in both can be compared.
        served_at: ISO 8601, when a server last reported that it had answered; empty if none did.
    """

    name: str
    number: int
    weights: Weights
    aliases: list[str] = []
    was: list[str] = []
    figures: dict[str, float] = {}
    last_run: str = ""
    system: str = ""
    conditions: str = ""
    served_at: str = ""

    @property
    def label(self) -> str:
        """`qwen@3`."""
        return f"{self.name}@{self.number}"


def split_reference(text: str) -> tuple[str, str] | None:
    """("qwen", "champion") of `qwen@champion`; None if it is no reference to a version."""
    found = _REFERENCE.fullmatch(text)
    return None if found is None else (found["name"], found["which"])


def registry_name(name: str) -> str:
    """The name of a model in a form that MLflow accepts."""
    return re.sub(r"[/:%\"'\\]", "_", name)


def choose(versions: Iterable[WeightsVersion], name: str, which: str) -> WeightsVersion:
    """The version of a model with this number or alias.

    Raises:
        ModelNotFoundError: there is none; the hint has those there are.
    """
    known = list(versions)
    own = [version for version in known if version.name == registry_name(name)]
    for version in own:
        if which in (str(version.number), *version.aliases):
            return version
    if not own:
        names = ", ".join(sorted({version.name for version in known})) or "none yet"
        raise ModelNotFoundError(
            f"{name}@{which}: no version of {name} was measured or served",
            hint=f"models that have versions: {names}; mode=benchmark model={name} makes one",
        )
    aliases = sorted({alias for version in own for alias in version.aliases})
    numbers = [version.number for version in own]
    raise ModelNotFoundError(
        f"{name} has no {'version' if which.isdigit() else 'alias'} {which}",
        hint=f"aliases: {', '.join(aliases) or 'none'}; versions: {min(numbers)} to {max(numbers)}",
    )


def find_files(version: WeightsVersion, models_dir: Folders) -> Path:
    """The path of a version's files: the recorded one, or another with the same content in `models_dir`.

    Raises:
        ModelNotFoundError: they are gone, or have changed, and no copy of them is in `models_dir`.
    """
    weights = version.weights
    problem = standing(version)
    if not problem:
        return Path(weights.path)
    for found in discover(models_dir):
        if found.version == weights.digest:
            return Path(found.path)
    raise ModelNotFoundError(
        f"{version.label} cannot be used: {problem}",
        hint="put its files back, or choose another version: mode=versions lists them",
    )


def standing(version: WeightsVersion) -> str:
    """The fault of a version's files at their recorded path; empty if they are unchanged."""
    weights = version.weights
    place = Path(weights.path)
    if not weights.path:
        return "it is not recorded where its files lie"
    if not place.exists():
        elsewhere = weights.host and weights.host != socket.gethostname()
        return f"its files are on {weights.host}" if elsewhere else "its files are gone"
    try:
        now = content_version(place)
    except LqmfError as error:
        return f"its files are damaged: {error.message}"
    return (
        "" if now == weights.digest else f"its files have changed: they are {now} now, not {weights.digest}"
    )


def newest_first(versions: Iterable[WeightsVersion]) -> Sequence[WeightsVersion]:
    """By name, and of each name the newest first."""
    return sorted(versions, key=lambda version: (version.name, -version.number))

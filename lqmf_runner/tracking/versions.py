"""Versions of weights in MLflow's model registry, as used by the front: a child process does the work."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from ..config import TrackingConfig
from ..errors import ConflictError, UserInputError
from ..models.registered import WeightsVersion
from . import TIMEOUT_S, run_child

_WAIT_S = 0.2  # waits for another process that writes to the store


class AliasChange(msgspec.Struct, frozen=True, kw_only=True):
    """Put an alias on a version, or take it away.

    Attributes:
        number: the version that gets the alias; None takes the alias away.
        source: a version of another name, "qwen_q4@2"; its weights become a version of `name`, which gets the alias.
        expected: the number that the alias must be on for the change to be made, None: on none. Without it the
            change is made in any case.
        note: why, kept with the version.
    """

    name: str
    alias: str
    number: int | None
    source: str = ""
    expected: int | msgspec.UnsetType | None = msgspec.UNSET
    note: str = ""


class AliasState(msgspec.Struct, frozen=True):
    """Where an alias is: on `number`, before on `previous`. `changed`: the change that was asked for was made."""

    number: int | None
    previous: int | None
    changed: bool = True


# Made here, not where it is used: see `results/files.py`.
_versions, _state = msgspec.json.Decoder(list[WeightsVersion]), msgspec.json.Decoder(AliasState)


def check_tracking(config: TrackingConfig) -> None:
    """Refuse to look up versions if tracking is off.

    Raises:
        UserInputError: tracking is off.
    """
    if not config.enabled:
        raise UserInputError(
            "versions are kept in MLflow's registry, and with tracking=none there is none",
            hint="leave out tracking=none; tracking.uri= names a store that is elsewhere",
        )


def read_versions(config: TrackingConfig, *, timeout_s: int = TIMEOUT_S) -> list[WeightsVersion]:
    """All versions of all models.

    Raises:
        UserInputError: tracking is off.
        TrackingError: they cannot be read.
    """
    check_tracking(config)
    path = config.uri.removeprefix("sqlite:///")
    if path != config.uri and not Path(path).exists():
        return []  # MLflow would make an empty store
    return _versions.decode(run_child(config, timeout_s, "--versions"))


def local_names(config: TrackingConfig) -> list[str]:
    """The names of models that have versions in a SQLite store, read in milliseconds, without MLflow.

    Empty if the store is a server or another database, or cannot be read: `read_versions` gives the reason to callers
    that need the versions.
    """
    import sqlite3

    path = config.uri.removeprefix("sqlite:///")
    if not config.enabled or path == config.uri or not Path(path).exists():
        return []
    names = "SELECT DISTINCT name FROM model_version_tags WHERE key = 'version' ORDER BY name"
    address = f"{Path(path).resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S)) as store:
            return [str(name) for (name,) in store.execute(names)]
    except sqlite3.Error:
        return []


def change_alias(config: TrackingConfig, change: AliasChange, *, timeout_s: int = TIMEOUT_S) -> AliasState:
    """Make the change, as one step for other processes of ours on this machine.

    Raises:
        ConflictError: the alias is not on the version that was expected: somebody else has moved it.
        UserInputError: there is no such version, or MLflow takes no such alias.
        TrackingError: MLflow cannot be reached.
    """
    check_tracking(config)
    words = ("--alias", msgspec.json.encode(change).decode())
    state = _state.decode(run_child(config, timeout_s, *words))
    if not state.changed:
        now = "removed" if state.number is None else f"moved to {change.name}@{state.number}"
        raise ConflictError(
            f"{change.alias} of {change.name} was {now} by somebody else meanwhile",
            hint="look at mode=versions and decide again",
        )
    return state

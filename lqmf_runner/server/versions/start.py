"""The versions that answer when a server starts: those it was started with, and the split of its configuration."""

from __future__ import annotations

from collections.abc import Sequence

from ...config import RunConfig, TrackingConfig
from ...errors import UserInputError
from ...models.registered import choose, split_reference
from ...tracking.versions import read_versions


def shares_of_the_start(
    chosen: Sequence[RunConfig], split: dict[str, float], tracking: TrackingConfig
) -> dict[str, dict[str, float]]:
    """The versions behind each name. A server of `qwen@champion` answers the name `qwen` with that version too.

    Args:
        split: `server.split`, of the first model.

    Raises:
        ModelNotFoundError: the first model has no such version.
        UserInputError: nothing is tracked.
        TrackingError: the versions cannot be read.
    """
    shares: dict[str, dict[str, float]] = {}
    for model in chosen:
        parts = split_reference(model.model.name)
        if model.model.digest is not None and parts is not None:
            shares[parts[0]] = {model.model.name: 1.0}
    if split and chosen:
        name = (split_reference(chosen[0].model.name) or (chosen[0].model.name,))[0]
        versions, own = read_versions(tracking), dict[str, float]()
        for which, share in split.items():
            label = choose(versions, name, which).label
            own[label] = own.get(label, 0.0) + share
        shares[name] = {label: share for label, share in own.items() if share > 0}
    return shares


def names_to_load(chosen: Sequence[str], shares: dict[str, dict[str, float]]) -> list[str]:
    """The models to load at the start: for a name that versions answer, these."""
    answers_to = {label: name for name, own in shares.items() for label in (name, *own)}
    found: dict[str, None] = {}
    for name in chosen:
        found |= dict.fromkeys(shares[answers_to[name]] if name in answers_to else [name])
    return list(found)


def names_to_pin(pin: Sequence[str], shares: dict[str, dict[str, float]]) -> list[str]:
    """The models that are never evicted: for a name that versions answer, these.

    Raises:
        UserInputError: an alias of such a name, which may move to another version.
    """
    for name in pin:
        parts = split_reference(name)
        if parts is not None and parts[0] in shares and not parts[1].isdigit():
            raise UserInputError(
                f"server.pin: {name} is an alias, which is not pinned",
                hint=f"pin {parts[0]}, or one of its versions: {', '.join(shares[parts[0]])}",
            )
    return [label for name in pin for label in shares.get(name, (name,))]

"""The origin of a folder in the models folder: a small file in it, by which the hub's id finds it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

RECORD = ".pulled.json"


class PullRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The repository, its commit, and the digests of the files that came from it, by their place in the folder."""

    hub_id: str
    commit: str
    digests: dict[str, str]


# Made here, not where it is used: see `results/files.py`.
_record = msgspec.json.Decoder(PullRecord)


def read_record(folder: Path) -> PullRecord | None:
    """The record of a folder; None where it was not fetched, or nobody can read it."""
    try:
        return _record.decode((folder / RECORD).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def write_record(folder: Path, record: PullRecord) -> None:
    """Write the record, whole or not at all."""
    partial = folder / f"{RECORD}.new"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    partial.replace(folder / RECORD)


def folder_name(hub_id: str) -> str:
    """The name of the folder for a repository, if no other is given."""
    return hub_id.rpartition("/")[2]


def pulled_folder(hub_id: str, roots: Sequence[Path]) -> Path | None:
    """The folder that was fetched from this repository; None where there is none."""
    usual = [root / folder_name(hub_id) for root in roots]
    renamed = [path.parent for root in roots for path in sorted(root.glob(f"*/{RECORD}"))]
    return next(
        (p for p in (*usual, *renamed) if (record := read_record(p)) and record.hub_id == hub_id), None
    )

"""Reads what a model was made from: `lqmf.json` beside its weights, or a key inside a GGUF."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..errors import LqmfError
from ..results.lineage import Origin
from .files.gguf import read_header
from .version import content_version

METADATA_FILE = "lqmf.json"
GGUF_KEY = "lqmf.origins"


class _Record(msgspec.Struct):
    version: str = ""
    source: str = ""
    source_version: str = ""
    origins: list[Origin] = []


# Made here, not where it is used: see `results/files.py`.
_origins, _record = msgspec.json.Decoder(list[Origin]), msgspec.json.Decoder(_Record)


def read_origins(path: str | Path) -> list[Origin]:
    """The models that the one at `path` was made from, its source first; empty if they are unknown."""
    place = Path(path)
    try:
        if not place.is_file():
            return _recorded(place / METADATA_FILE, None)
        inside = read_header(place).metadata.get(GGUF_KEY)
        if isinstance(inside, str):
            return _origins.decode(inside)
        return _recorded(place.with_name(METADATA_FILE), content_version(place))
    except (OSError, msgspec.MsgspecError, LqmfError):
        return []


def _recorded(file: Path, version: str | None) -> list[Origin]:
    """The origins in a record; none if it is about another version than the given one."""
    if not file.is_file():
        return []
    record = _record.decode(file.read_bytes())
    if version not in (None, record.version):
        return []
    if record.origins or not record.source_version:
        return record.origins
    return [Origin(name=record.source, version=record.source_version)]

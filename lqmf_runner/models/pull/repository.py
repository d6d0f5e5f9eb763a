"""The files of a repository on the hub, with sizes and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...config import ModelConfig
from ...errors import LqmfError
from ..hub import require_hub

_BLOCK = 1 << 20
_SHA256_LENGTH = 64
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        digest: SHA-256 of a large file, git's blob id (a SHA-1) of a small one.
    """

    path: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        """Without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Repository:
    """The files of a repository at one commit."""

    hub_id: str
    commit: str
    files: tuple[HubFile, ...]


def read_repository(model: ModelConfig) -> Repository:
    """Ask the hub for the files of `model.hub_id` at `model.revision`.

    Raises:
        ModelNotFoundError: the hub has it not, keeps it behind a login, or cannot be reached.
        LqmfError: its answer cannot be used.
    """
    require_hub(model)
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(
            model.hub_id or "", revision=model.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    except Exception as error:  # of the connection, of the hub, of what a proxy answers
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LqmfError(f"the hub does not list the files of {model.hub_id}: {reason}") from error
    files = []
    for sibling in info.siblings or ():
        _refuse_strange(sibling.rfilename)
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if digest is None or sibling.size is None:
            raise LqmfError(f"the hub gives no size and digest of {sibling.rfilename}")
        files.append(HubFile(sibling.rfilename, sibling.size, digest))
    return Repository(model.hub_id or "", info.sha or "main", tuple(files))


def digest_of(path: Path, like: str, on_bytes: Callable[[int], None] = lambda n: None) -> str:
    """The digest of a file on this machine, of the kind that `like` is."""
    digest = hashlib.sha256() if len(like) == _SHA256_LENGTH else hashlib.sha1(usedforsecurity=False)
    if len(like) != _SHA256_LENGTH:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def _refuse_strange(path: str) -> None:
    """A name from the hub becomes a path here."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts):
        raise LqmfError(f"the hub lists a file with the name {path!r}, which is no path in a repository")

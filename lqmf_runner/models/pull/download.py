"""One file from the hub. A download continues where an earlier one stopped.

huggingface_hub throws an unfinished file away, which of a large model may be hours of work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ...errors import LqmfError, ModelNotFoundError
from .repository import HubFile, Repository, digest_of

TRIES, FIRST_WAIT_S = 5, 0.5
_TIMEOUT_S = 30.0

OnBytes = Callable[[int], None]


def download(repository: Repository, file: HubFile, place: Path, on_bytes: OnBytes) -> None:
    """Fetch the file to `place`, which is only there when its digest is the hub's.

    What has arrived is kept in `part_of` and not asked for again. A broken connection is tried again a few times.

    Args:
        on_bytes: gets the bytes of each arrival, and at first those that are there; fewer after a fresh start.

    Raises:
        ModelNotFoundError: the hub does not give the file, without a login for example.
        LqmfError: the connection does not hold, or what arrives is not what the hub lists.
    """
    if place.exists() and place.stat().st_size == file.size:
        on_bytes(file.size)
        if digest_of(place, file.digest) == file.digest:
            return
        on_bytes(-file.size)
        place.unlink()
    part = part_of(place, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    on_bytes(part.stat().st_size if part.exists() else 0)
    for attempt in range(TRIES):
        try:
            _receive(repository, file, part, on_bytes)
            break
        except _BrokenError as error:
            if attempt + 1 == TRIES:
                raise LqmfError(
                    f"{file.path}: the connection to the hub does not hold ({error})",
                    hint="run it again: what has arrived is kept",
                ) from error
            time.sleep(FIRST_WAIT_S * 2**attempt)
    found = digest_of(part, file.digest)
    if found != file.digest:
        size = part.stat().st_size
        part.unlink()
        on_bytes(-size)
        raise LqmfError(
            f"{file.path} has arrived damaged: its digest is {found[:12]}..., the hub's {file.digest[:12]}...",
            hint="run it again: this file is fetched from its beginning, the others are kept",
        )
    part.replace(place)


def part_of(place: Path, file: HubFile) -> Path:
    """Where an unfinished file is kept: of another commit's file of this name it is another one."""
    return place.with_name(f"{place.name}.{file.digest[:8]}.part")


class _BrokenError(Exception):
    """The file is not complete, and another try may help."""


def _receive(repository: Repository, file: HubFile, part: Path, on_bytes: OnBytes) -> None:
    """Add what is missing of the file to `part`."""
    import httpx
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    have = part.stat().st_size if part.exists() else 0
    if have == file.size:
        part.touch()
        return
    url = hf_hub_url(repository.hub_id, file.path, revision=repository.commit)
    # Not compressed: the range and the size are those of the file.
    headers = {**build_hf_headers(), "accept-encoding": "identity"}
    if have:
        headers["range"] = f"bytes={have}-"
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            _check(answer.status_code, repository, file)
            goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
            if have and not goes_on:  # the server does not support ranges
                on_bytes(-have)
                have = 0
            with part.open("ab" if goes_on else "wb") as stream:
                for block in answer.iter_raw():
                    if have + len(block) > file.size:
                        raise LqmfError(
                            f"{file.path}: the hub sends more than the {file.size} bytes it lists"
                        )
                    stream.write(block)
                    have += len(block)
                    on_bytes(len(block))
    except httpx.HTTPError as error:
        raise _BrokenError(str(error) or type(error).__name__) from error
    if have < file.size:
        raise _BrokenError(f"it ended after {have} of {file.size} bytes")


def _check(status: int, repository: Repository, file: HubFile) -> None:
    if status in (200, 206):
        return
    if status in (408, 429) or status >= 500:
        raise _BrokenError(f"the hub answers {status}")
    if status in (401, 403):
        raise ModelNotFoundError(
            f"the hub does not give {repository.hub_id} without a login",
            hint="accept its licence on its page, then log in: hf auth login",
        )
    raise ModelNotFoundError(
        f"the hub does not give {file.path} of {repository.hub_id} (status {status})",
        hint="check the id and the revision",
    )

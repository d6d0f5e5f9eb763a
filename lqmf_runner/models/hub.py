"""Fetches a model from the Hugging Face hub, after a check of a few seconds that the hub can be reached at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from ..config import ModelConfig
from ..errors import LqmfError, ModelNotFoundError, ModelUnusableError, UserInputError
from .inspect import gguf_files, inspect_model

REACH_TIMEOUT_S = 2.5  # with all imports, an answer takes less than 5 s
CHECKPOINT_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt"]
NEVER = [
    *("*.bin", "*.pt", "*.pth", "*.py"),  # no pickles, no code
    *("*/*.safetensors", "*/*.json", "*/*.model", "*/*.tiktoken", "*/*.txt", "*/*.gguf"),
]
"""Of subfolders only additional_chat_templates/*.jinja is wanted; others hold the weights once more."""


def fetch(model: ModelConfig, *, download: bool = True) -> Path:
    """A local copy of `model.hub_id`: from the cache if it is complete there, otherwise downloaded.

    Raises:
        ModelNotFoundError: it is not cached, and it is not to be downloaded, or the hub has it not, keeps it behind a
            login, or cannot be reached.
    """
    hub_id = model.hub_id or ""
    if hub_id.count("/") != 1 or not all(part and not part.startswith(".") for part in hub_id.split("/")):
        raise UserInputError(f"model.hub_id={hub_id!r} is not of the form owner/name")
    cached = _cached(model)
    if cached is not None:
        return cached
    if not download:
        raise ModelNotFoundError(
            f"the weights of {model.name} are not on this machine",
            hint=f"fetch them first: lqmf pull {hub_id}",
        )
    require_hub(model)
    return _chosen(_download(model), model)


def _cached(model: ModelConfig) -> Path | None:
    try:
        place = _chosen(_snapshot(model, local=True), model)
        inspect_model(place)
        return place
    except ModelUnusableError as error:
        # An incomplete download can be continued; a model that is refused for its content cannot be repaired.
        return place if "auto_map" in error.message else None
    except (LqmfError, OSError, ValueError):
        return None


def _snapshot(model: ModelConfig, *, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model.hub_id or "",
        revision=model.revision,
        allow_patterns=[model.file] if model.file else CHECKPOINT_FILES,
        ignore_patterns=NEVER,
        local_files_only=local,
    )
    return Path(folder)


def _chosen(folder: Path, model: ModelConfig) -> Path:
    if not model.file:
        return folder
    matches = [f for f in gguf_files(folder) if f.match(model.file)]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(f.name for f in matches)
    raise ModelNotFoundError(
        f"model.file={model.file} matches {len(matches)} GGUF models of {model.hub_id}",
        hint=f"choose one of: {names}" if names else "see the files on the model's page",
    )


def _download(model: ModelConfig) -> Path:
    try:
        return _snapshot(model, local=False)
    except OSError as error:  # huggingface_hub's own errors are OSErrors too
        if error.errno == errno.ENOSPC:
            raise ModelNotFoundError(
                f"the disk is full; {model.hub_id} is only partly downloaded",
                hint="make room and run it again",
            ) from error
        raise _unavailable(model, str(error).splitlines()[0]) from error


def require_hub(model: ModelConfig) -> None:
    """Ask the hub for the model, with a limit on the whole wait, name resolution included.

    Raises:
        ModelNotFoundError: the hub has it not, keeps it behind a login, or cannot be reached.
    """
    status = hub_status(f"models/{model.hub_id}/revision/{model.revision or 'main'}")
    if isinstance(status, str):
        raise _unavailable(model, status)
    if status in (401, 403):
        raise ModelNotFoundError(
            f"the hub does not show {model.hub_id} without a login (or there is no such model)",
            hint="accept its licence on its page, then log in: hf auth login",
        )
    if status == 404:
        revision = f" at revision {model.revision}" if model.revision else ""
        raise ModelNotFoundError(
            f"the hub has no {model.hub_id}{revision}", hint="check model.hub_id and .revision"
        )
    if status >= 500:
        raise _unavailable(model, f"it answers {status}")


def hub_status(what: str) -> int | str:
    """The hub's HTTP status for "models/..." or "datasets/...", or why it cannot be asked, within a few seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answer: list[int | str] = []
    url = f"{constants.ENDPOINT}/api/{what}"
    thread = threading.Thread(target=lambda: answer.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return answer[0] if answer else f"no answer within {REACH_TIMEOUT_S:g} s"


def _ask(url: str) -> int | str:
    import httpx
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    try:
        return httpx.get(
            url,
            headers=build_hf_headers(),
            timeout=REACH_TIMEOUT_S,
            follow_redirects=True,
        ).status_code
    except Exception as error:  # refused, unknown host, a proxy's page, a broken certificate
        return type(error).__name__


def _unavailable(model: ModelConfig, why: str) -> ModelNotFoundError:
    folder = os.path.basename(model.path or "") or (model.hub_id or "").replace("/", "_")
    return ModelNotFoundError(
        f"the weights of {model.name} are not on this machine and the hub cannot be reached ({why})",
        hint=f"connect and run it again, or put a copy of {model.hub_id} into the models folder as {folder} "
        f"and set model.path={folder}",
    )

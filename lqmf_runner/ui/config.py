"""What the page knows of its server, and whether it can be there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PATH = "/ui"


@dataclass(frozen=True)
class PageConfig:
    """What the page knows of the server that it belongs to.

    Attributes:
        url: of the server, for a client on this machine.
        outputs: folder with the folders of runs.
        folder: of the server's own run, which has what versions have served.
        models_dir: the setting of that name for the programs that the page starts.
        tracking: send runs that the page starts to MLflow.
        keys_file: hashed API keys, or None.
        with_key: the server has keys.
        certfile: the server's certificate; None without HTTPS.
        max_upload_bytes: size limit of an uploaded file.
    """

    url: str
    outputs: Path
    folder: Path
    models_dir: str
    tracking: bool
    keys_file: Path | None
    with_key: bool
    max_upload_bytes: int
    certfile: str | None = None


def is_installed() -> bool:
    """Whether the extra `ui` is."""
    return find_spec("gradio") is not None

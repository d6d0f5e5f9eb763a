"""Where the YAML files of the configuration are, and the names of those that ship."""

from __future__ import annotations

from pathlib import Path

from ..errors import LqmfError
from ..install import install_line


def conf_dir() -> Path:
    """The folder of YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise LqmfError("the folder conf/ is missing", hint=f"install it again: {install_line()}")


def conf_names(group: str, *folders: str) -> list[str]:
    """Names one can choose from in a config group, with those in the user's own `folders`."""
    places = (conf_dir(), *map(Path, folders))
    return sorted({path.stem for place in places for path in (place / group).glob("*.yaml")})

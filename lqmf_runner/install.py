"""What to type where a package is missing: one line that is right for a clone, its `.venv`, or an installed package.

No line has a path of this machine but relative to the clone, because clients of a server see it too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DISTRIBUTION = "lqmf-runner"
_ROOT = Path(__file__).resolve().parent.parent
_VENV = ".venv"


def install_line(extra: str = "") -> str:
    """The command that installs the program with one of its extras, or what the program itself needs."""
    wanted = f"[{extra}]" if extra else ""
    if not _is_clone(_ROOT):
        return f"{_python()} -m pip install '{DISTRIBUTION}{wanted}'"
    where = "" if Path.cwd() == _ROOT else "in the clone: "
    return f"{where}{_python()} -m pip install -e '.{wanted}'"


def pip_line(*requirements: str) -> str:
    """The command that installs packages beside the program."""
    where = "in the clone: " if _python() != "python" and Path.cwd() != _ROOT else ""
    return f"{where}{_python()} -m pip install {' '.join(requirements)}"


def missing_package(error: ModuleNotFoundError) -> tuple[str, str]:
    """A message and a hint for a package that this Python has not, which perhaps the clone's own has."""
    package = (error.name or str(error)).partition(".")[0]
    own = _ROOT / _VENV / "bin" / "python"
    if _is_clone(_ROOT) and own.exists() and Path(sys.prefix).resolve() != (_ROOT / _VENV).resolve():
        where = "" if Path.cwd() == _ROOT else "in the clone: "
        hint = f"{where}{_VENV}/bin/lqmf, or source {_VENV}/bin/activate before it"
        return f"this Python has no package {package}; the one in {_VENV} is set up for the program", hint
    setup = "make setup, or " if _is_clone(_ROOT) else ""
    return f"the package {package} is not installed", f"{setup}{install_line()}"


def _is_clone(root: Path) -> bool:
    return (root / "pyproject.toml").is_file()


def _python() -> str:
    """The Python that runs, where it lies in the clone; else the one of the user's environment."""
    prefix = Path(sys.prefix)
    return f"{os.path.relpath(prefix, _ROOT)}/bin/python" if prefix.is_relative_to(_ROOT) else "python"

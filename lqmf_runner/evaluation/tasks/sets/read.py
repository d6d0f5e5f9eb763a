"""Reads the tasks that ship, in memory: they need no network and no cache. Called by their YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def everyday(**_: Any) -> dict[str, Any]:
    """Lines "beginning | right ending | wrong one | ..."."""
    return _test_set([{"beginning": row[0], "endings": row[1:]} for row in _rows("lqmf_everyday.txt")])


def opposites(**_: Any) -> dict[str, Any]:
    """Lines "word | opposite"."""
    return _test_set([{"word": row[0], "opposite": row[1]} for row in _rows("lqmf_opposites.txt")])


def _rows(name: str) -> list[list[str]]:
    lines = (_FOLDER / name).read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line.strip()]


def _test_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list(rows)}

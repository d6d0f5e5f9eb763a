"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = ("lqmf_runner", "hydra_plugins", "conf", "tests", "benchmarks", "deploy", "docs")
# A program of ours, or a folder. One with a `<name>` or a `*` in it stands for many.
NAMED = re.compile(rf"`(?:python )?((?:[\w.-]+/)*[\w-]+\.(?:py|sh)|(?:{'|'.join(PLACES)})/(?:[\w-]+/)*)`")
NONE_OF_OURS = {"utils.py"}  # CONTRIBUTING.md: there is none


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    """By its path, or the end of it: a list of a package's files leaves the package out."""
    there = [
        f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}"
        for place in PLACES
        for path in ((ROOT / place), *(ROOT / place).rglob("*"))
    ]
    named = set(NAMED.findall(document.read_text())) - NONE_OF_OURS
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in there)} == set()

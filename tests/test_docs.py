"""What the documents name and link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = ("lqmf_runner", "hydra_plugins", "conf", "tests", "benchmarks", "deploy", "docs")
# A program of ours, or a folder. One with a `<name>` or a `*` in it stands for many.
NAMED = re.compile(rf"`(?:python )?((?:[\w.-]+/)*[\w-]+\.(?:py|sh)|(?:{'|'.join(PLACES)})/(?:[\w-]+/)*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A document that a text names by its path: documents name each other by links, code and configuration by paths.
MENTION = re.compile(r"(?<![\w/])docs/(?:\w+/)*\w+\.md\b")
LINES = 400  # beyond, a document has two subjects
COLUMNS = 100  # of prose and code; a row of a table cannot be broken
NONE_OF_OURS = {"utils.py"}  # CONTRIBUTING.md: there is none


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    """By its path, or the end of it: a list of a package's files leaves the package out."""
    there = [
        f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}"
        for place in PLACES
        for path in ((ROOT / place), *(ROOT / place).rglob("*"))
    ]
    named = set(NAMED.findall(document.read_text())) - NONE_OF_OURS
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in there)} == set()


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    dead = []
    for link in LINK.findall(document.read_text()):
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_document_that_the_program_names_is_there() -> None:
    files = [
        path
        for place in PLACES
        for path in (ROOT / place).rglob("*")
        if path.suffix in {".py", ".yaml", ".md"}
    ]
    named = {(name, str(path)) for path in files for name in MENTION.findall(path.read_text())}
    assert named
    assert {(name, path) for name, path in named if not (ROOT / name).exists()} == set()


def test_no_document_is_too_long_to_be_one_subject() -> None:
    assert {path.name: n for path in DOCUMENTS if (n := len(path.read_text().splitlines())) > LINES} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_of_a_document_is_too_wide_for_a_terminal(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert [line for line in lines if len(line) > COLUMNS and not line.lstrip().startswith("|")] == []

"""The limits on files, functions and folders that CONTRIBUTING.md names."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("lqmf_runner", "hydra_plugins", "benchmarks", "tests")
LINES, FUNCTION_LINES, FILES = 400, 60, 14
FILE_KINDS = {".py", ".yaml", ".html", ".css", ".js"}
# One file a model, whose names users type: a subfolder would be a part of the name.
LISTS = {ROOT / "conf" / "model"}


def python_files() -> list[Path]:
    return [path for name in CODE for path in (ROOT / name).rglob("*.py")]


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert lengths
    assert {path: n for path, n in lengths.items() if n > LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {name: n for name, n in long.items() if n > FUNCTION_LINES} == {}


def test_folders_have_few_files() -> None:
    files = [
        path for name in (*CODE, "conf") for path in (ROOT / name).rglob("*") if path.suffix in FILE_KINDS
    ]
    counts = Counter(path.parent for path in files)
    assert {str(folder): n for folder, n in counts.items() if n > FILES and folder not in LISTS} == {}

"""What all benchmark programs share: sections of figures, printed as they are measured and kept as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = len(os.sched_getaffinity(0))

Row = dict[str, Any]
Section = Callable[[int], AsyncIterator[Row]]  # takes the number of repeats


def row(what: str, value: float, unit: str, ratio_text: str = "", **more: Any) -> Row:
    """A figure: what is printed, and `more` for the JSON."""
    return {"what": what, "value": value, "unit": unit, "ratio_text": ratio_text, **more}


async def run_sections(sections: Mapping[str, Section], about: str | None) -> None:
    """Run the sections that the command line names, or all, and print their rows as they come."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", nargs="+", choices=list(sections))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="write all figures to this file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"machine": _machine(), "rows": []}
    for name in arguments.only or sections:
        async for found in sections[name](arguments.repeats):
            report["rows"].append(found)
            print(
                f"{found['what']:<58} {found['value']:>9.2f} {found['unit']:<8} {found['ratio_text']:<44}",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1))  # noqa: ASYNC240


def _machine() -> dict[str, Any]:
    packages = ("torch", "transformers", "bitsandbytes", "gptqmodel", "llama-cpp-python")
    return {"platform": platform.platform(), "cores": THREADS, "packages": {p: version(p) for p in packages}}

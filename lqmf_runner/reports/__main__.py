"""`python -m lqmf_runner.reports <run folder>`: write the reports of a run again."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import LqmfError
from ..results.files import read_results
from . import write_reports


def main() -> int:
    """Write the reports again and return the exit code."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m lqmf_runner.reports <run folder>", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    try:
        problems = write_reports(read_results(folder), folder)
    except LqmfError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

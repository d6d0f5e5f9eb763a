"""The child's side of `child.Child`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def answer_jobs(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line until the parent closes the pipe."""
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(work(job) if job else {}), flush=True)

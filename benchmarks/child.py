"""A benchmark's child process (`children/`): it loads something once, then answers one JSON job a line.

Keeping the contenders loaded side by side lets their repeats alternate, so that drift of the machine hits both.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

CHILDREN = Path(__file__).parent / "children"


class Child:
    """Runs `python children/script args` and exchanges JSON lines with it."""

    def __init__(self, python: str, script: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [python, str(CHILDREN / script), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ask({})  # answers once it is loaded

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

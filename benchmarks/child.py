"""A benchmark's child process: it loads something once, then answers one JSON job a line.

Keeping the contenders loaded side by side lets their repeats alternate, so that drift of the machine hits both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any


class Child:
    """Runs `python script args` and exchanges JSON lines with it."""

    def __init__(self, python: str, script: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [python, script, *args],
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


def answer_jobs(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: answer each line until the parent closes the pipe."""
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(work(job) if job else {}), flush=True)

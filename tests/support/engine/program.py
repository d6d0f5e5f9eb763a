"""Stands for `vllm serve` and its like: takes their arguments, starts a process of its own, and serves OpenAI's API.

`python -m tests.support.engine.program serve FOLDER --port N ...`: writes its arguments and the ids of its processes
into FOLDER. It wants the key in VLLM_API_KEY, or as the only line of the file after `--config`. With `--fail` it ends
at once and says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .endpoint import RecordingEndpoint


def main(arguments: list[str]) -> None:
    folder = Path(arguments[1])
    if "--fail" in arguments:
        sys.exit("CUDA out of memory")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    port = int(arguments[arguments.index("--port") + 1])
    key = os.environ.get("VLLM_API_KEY") or _configured(Path(arguments[arguments.index("--config") + 1]))
    server = RecordingEndpoint(lambda prompt: f"you said {prompt}", port, key)
    (folder / "started.json").write_text(
        json.dumps({"arguments": arguments, "program": os.getpid(), "child": child.pid})
    )
    server.serve_forever(0.02)


def _configured(file: Path) -> str:
    """The key of a file, which nobody else can read."""
    assert file.suffix == ".yaml"
    assert file.stat().st_mode & 0o077 == 0
    name, key = file.read_text().split()
    assert name == "api-key:"
    return key


if __name__ == "__main__":
    main(sys.argv[1:])

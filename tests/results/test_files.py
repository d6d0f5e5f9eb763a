"""What a run leaves is read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lqmf_runner.results import files
from tests.support.runs.sample import sample_model, sample_results


def test_threads_that_read_results_first_at_the_same_time_all_get_them(tmp_path: Path) -> None:
    """msgspec crashes the process if two threads are the first to decode a type. Two tabs of the page are."""
    files.write_results(sample_results(sample_model("m")), tmp_path)
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from lqmf_runner.results.files import read_results\n"
        "sys.setswitchinterval(1e-6)\n"
        "barrier = threading.Barrier(8)\n"
        "def read():\n"
        "    barrier.wait()\n"
        "    assert read_results(Path(sys.argv[1])).models[0].name == 'm'\n"
        "threads = [threading.Thread(target=read) for _ in range(8)]\n"
        "threading.excepthook = lambda problem: print(problem, file=sys.stderr)\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")

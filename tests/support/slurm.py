"""Slurm's commands as far as submitit uses them, on this machine: a job is a process."""

from __future__ import annotations

import sys
from pathlib import Path

_SBATCH = r'''
"""Starts each job of an array in the environment of who submits it, as `--export=ALL` does."""
import os, re, subprocess, sys, zlib
from pathlib import Path
script = Path(sys.argv[-1])
state = Path(__file__).parent / "jobs"
number = str(zlib.crc32(str(state).encode()) + len(list(state.glob("*"))))  # submitit remembers numbers
found = re.search(r"--array=0-(\d+)", script.read_text())
for index in range(int(found[1]) + 1) if found else [None]:
    name = number if index is None else f"{number}_{index}"
    own = {"SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1",
           "SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}
    if index is not None:
        own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(index)}
    process = subprocess.Popen(
        ["bash", str(script)], env={**os.environ, **own}, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (state / name).write_text(str(process.pid))
print("Submitted batch job", number)
'''
_SRUN = r'''
"""Runs the command behind the options in this job's place."""
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    del words[: 2 if words[0] in ("--output", "--error") else 1]
os.execvp(words[0], words)
'''
_SACCT = r'''
"""The state of all jobs: a process that is gone has ended, and what it left says how."""
from pathlib import Path
print("JobID|State|NodeList")
for job in sorted((Path(__file__).parent / "jobs").glob("*")):
    try:
        running = Path(f"/proc/{job.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        running = False
    print(f"{job.name}|{'RUNNING' if running else 'NODE_FAIL'}|here")
'''
_SCANCEL = r'''
"""Ends jobs."""
import os, signal, sys
from pathlib import Path
for name in sys.argv[1:]:
    for job in (Path(__file__).parent / "jobs").glob(f"{name}*"):
        try:
            os.killpg(int(job.read_text()), signal.SIGKILL)
        except OSError:
            pass
'''


def make_slurm(folder: Path) -> Path:
    """Put sbatch, srun, sacct and scancel into a folder for PATH; jobs are files of its subfolder `jobs`."""
    (folder / "jobs").mkdir(parents=True)
    commands = {"sbatch": _SBATCH, "srun": _SRUN, "sacct": _SACCT, "scancel": _SCANCEL}
    for name, text in commands.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    return folder

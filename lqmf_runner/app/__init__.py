"""The interface to the user and to Hydra: command line, composition, error messages."""

import sys
from pathlib import Path

PROGRAM = "lqmf" if Path(sys.argv[0]).name == "lqmf" else "python -m lqmf_runner"
"""How the program is called, as commands that are shown or kept begin."""

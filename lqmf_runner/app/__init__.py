"""The edge to the user and to Hydra: command line, composition, error wording."""

PROGRAM = "python -m lqmf_runner"
"""How the program is called, as commands that are shown or kept begin."""

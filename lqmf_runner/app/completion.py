"""Completion of the command line in bash, zsh and fish: modes, then models and options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserInputError
from ..modes import MODES
from .choices.model import default_models_dir
from .conf import conf_names
from .options import flags, is_switch
from .words import ALIASES, LINES

# Each calls the program: `lqmf --complete <words before the cursor> <the word that is typed>`.
SCRIPTS = {
    "bash": """_lqmf() {
    local IFS=$'\\n'
    COMPREPLY=($(lqmf --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _lqmf lqmf""",
    "zsh": """_lqmf() {
    local -a found
    found=("${(@f)$(lqmf --complete "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -a found || _files
}
compdef _lqmf lqmf""",
    "fish": """complete -c lqmf -a '(lqmf --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'""",
}


def completion_script(shell: str) -> str:
    """What a shell's start-up file evaluates.

    Raises:
        UserInputError: there is none for this shell.
    """
    if shell not in SCRIPTS:
        raise UserInputError(f"no completion for '{shell}'", hint=f"choose one of: {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def candidates(words: Sequence[str]) -> list[str]:
    """The completions of the last word; empty if it is a file or a text."""
    *before, typed = words or [""]
    if not before:
        found = [*MODES, *ALIASES]
    else:
        mode = ALIASES.get(before[0], before[0])
        if mode not in MODES:
            return []
        if typed.startswith("-"):
            options = flags(mode)
            names = [*options, *(f"no_{name}" for name in options if is_switch(options[name]))]
            found = [f"--{name.replace('_', '-')}" for name in names]
        else:
            found = [*_models(mode, before[1:])]
    return sorted({word for word in found if word.startswith(typed)})


def _models(mode: str, before: Sequence[str]) -> list[str]:
    """The names of models, if a model can follow."""
    given = [word for word in before if not word.startswith("-")]
    line = LINES.get(mode, "")
    if "model" not in line or (given and "..." not in line):
        return []
    roots = [root for root in map(Path, default_models_dir()) if root.is_dir()]
    lying = [p.name for root in roots for p in root.iterdir() if p.is_dir() or p.suffix == ".gguf"]
    return [*conf_names("model"), *lying]

"""The command line: help, options and exit codes.

What needs Hydra is imported when a mode runs, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import stat
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import INTERRUPTED, UserInputError
from . import PROGRAM
from .conf import conf_names
from .options import show_at
from .terminal import discard_output, report
from .words import are_words, from_words, mode_first, mode_of, shown

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Hydra's options. Its parser answers a wrong one with a page of usage, so that they are checked here first.
OPTIONS = {
    "-m",
    "--multirun",
    "-r",
    "--run",
    "--resolve",
    "-i",
    "--info",
    "--hydra-help",
    "-sc",
    "--shell-completion",
}
OPTIONS_WITH_VALUE = {
    *(
        "-c",
        "--cfg",
        "-p",
        "--package",
        "-cd",
        "--config-dir",
        "-cn",
        "--config-name",
        "-cp",
        "--config-path",
    ),
    "--experimental-rerun",
}
_SILENCE_S = 3.0  # of a pipe, until a message says that the program waits for it
_CFG = ("job", "hydra", "all")
_ONE_OF = {"-m", "--multirun", "-r", "--run", "-c", "--cfg", "-i", "--info"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 1 the run failed, 2 the input was wrong."""
    exit_code = 0
    try:
        exit_code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    return exit_code


def _run(args: list[str]) -> int:
    if args[:1] == ["--complete"]:  # before --help, because that word may be completed
        return _complete(args)
    args = mode_first(args)
    if args[:1] == ["help"]:
        args = [*args[1:2], "--help"]
    before_text = args[: args.index("--")] if "--" in args else args
    if not args or "--help" in before_text or "-h" in before_text:
        return _help(args)
    if args[0] == "--completion":
        return _complete(args)
    if "--version" in before_text or args in (["version"], ["-v"], ["-V"]):
        print(f"lqmf-runner {__version__}")
        return 0
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    # A log that cannot be written, on a full disk, is no reason for a traceback.
    logging.raiseExceptions = False
    try:
        _check_log_level()
        show = show_at(args) if are_words(args) else None
        if are_words(args):
            args = [word for at, word in enumerate(args) if at != show]
            piped = piped_text if show is None else str
            args = from_words(args, OPTIONS, OPTIONS_WITH_VALUE, piped=piped)
        if show is not None:
            print(shown(args))
            return 0
        overrides, options = _sort_arguments(args)
        from .hydra import run

        return run(overrides, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return report(error)


def _help(args: Sequence[str]) -> int:
    """All modes, or the options of the mode that the first word or `mode=` names."""
    named = [args[0]] if are_words(args) else [word[5:] for word in args if word.startswith("mode=")]
    if not named:
        print(help_text())
        return 0
    try:
        mode = mode_of(named[0])
    except UserInputError as error:
        return report(error)
    from .mode_help import mode_help

    print(mode_help(mode))
    return 0


def _complete(args: Sequence[str]) -> int:
    """The completion script of a shell, or the words that the one before the cursor may become."""
    from .completion import candidates, completion_script

    if args[0] == "--complete":
        print("\n".join(candidates(args[1:])))
        return 0
    try:
        print(completion_script(args[1] if len(args) > 1 else ""))
    except UserInputError as error:
        return report(error)
    return 0


def piped_text() -> str:
    """What a pipe or a file gives as the standard input, without the line end at its end; empty for a terminal.

    Raises:
        UserInputError: it is not UTF-8 text.
    """
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
        if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind)):
            return ""
        if stat.S_ISFIFO(kind) and not select.select([sys.stdin], [], [], _SILENCE_S)[0]:
            print("reading the standard input to its end; < /dev/null gives none", file=sys.stderr)
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserInputError("the standard input is not UTF-8 text") from None
    except (OSError, ValueError, AttributeError):  # closed, or none
        return ""


def help_text() -> str:
    """All modes with an example each, and how to set things."""
    from ..formats import backend_schemas
    from ..modes import MODES

    width = max(map(len, MODES))
    modes = "\n".join(
        f"  {name:<{width}}  {mode.summary}\n  {'':<{width}}  $ {PROGRAM} {mode.example}"
        for name, mode in MODES.items()
    )
    return f"""lqmf-runner {__version__}: run, measure and compare quantized language models (GGUF, bitsandbytes, GPTQ).

usage: {PROGRAM} <mode> [model ...] [text or file] [--option value] [key=value ...]
       {PROGRAM} mode=<mode> [model=<name>] [prompts=<set>] [key=value ...]      the same in settings

modes:
{modes}

choices (YAML files in conf/, or in a folder of your own with --config-dir):
  models    {", ".join(conf_names("model"))}
  prompts   {", ".join(conf_names("prompts"))}
  backend   {", ".join(sorted({*conf_names("backend"), *backend_schemas()}))}
  tracking  {", ".join(conf_names("tracking"))}
  placement {", ".join(conf_names("placement"))}
  experiment  {", ".join(conf_names("experiment"))}

more:
  <mode> --help       the options of a mode
  <mode> ... --show   the same line in settings
  --completion bash   (zsh, fish) what to put into the shell's start-up file for completion
  -m model=a,b,c      one run for each value (a sweep)
  models=[a,b,c]      several models in one run
  --cfg job           print the composed configuration and stop
  LQMF_LOG_LEVEL=DEBUG, LQMF_DEBUG=1 (tracebacks)
"""


def end_like_ctrl_c(*_: object) -> None:
    """A handler of SIGTERM: the run ends as with Ctrl-C, and keeps what was done."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _check_log_level() -> None:
    level = os.environ.get("LQMF_LOG_LEVEL")
    if level is None:
        return
    if level.upper() not in LOG_LEVELS:
        raise UserInputError(
            f"LQMF_LOG_LEVEL={level} is not valid", hint=f"choose one of: {', '.join(LOG_LEVELS)}"
        )
    os.environ["LQMF_LOG_LEVEL"] = level.upper()


def _sort_arguments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides and options: Hydra's parser refuses overrides on both sides of an option.

    Raises:
        UserInputError: there is no such option.
    """
    overrides: list[str] = []
    options: list[str] = []
    rest = iter(args)
    for arg in rest:
        if not arg.startswith("-"):
            overrides.append(arg)
            continue
        name, has_value, _ = arg.partition("=")
        if name not in OPTIONS | OPTIONS_WITH_VALUE:
            raise UserInputError(
                f"unknown option '{arg}'",
                hint="values are given as key=value, e.g. mode=benchmark; see --help",
            )
        options.append(arg)
        if name in OPTIONS_WITH_VALUE and not has_value:
            value = next(rest, None)
            if value is None:
                raise UserInputError(f"{name} needs a value", hint="see --help")
            options.append(value)
        part = options[-1].rpartition("=")[2]
        if name in ("-c", "--cfg") and part not in _CFG:
            raise UserInputError(f"{name} {part} is not valid", hint=f"choose one of: {', '.join(_CFG)}")
    what = [option for option in options if option.partition("=")[0] in _ONE_OF]
    if len(what) > 1:
        raise UserInputError(
            f"{what[0]} and {what[1]} do not go together", hint="--cfg job shows the configuration of one run"
        )
    return overrides, options

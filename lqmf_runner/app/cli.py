"""The command line: help, exit codes, and the one place where errors are mapped to the terminal.

What needs Hydra lives in `hydra_app.py`, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import LqmfError, UserInputError

log = logging.getLogger(__name__)

PROGRAM = "python -m lqmf_runner"
INTERRUPTED = 130
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
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
    if not args or "--help" in args or "-h" in args:
        print(help_text())
        return 0
    if "--version" in args:
        print(f"lqmf-runner {__version__}")
        return 0
    signal.signal(signal.SIGTERM, _end_like_ctrl_c)
    # A log that cannot be written, on a full disk, is no reason for a traceback.
    logging.raiseExceptions = False
    try:
        _check_log_level()
        args = _sort_arguments(args)
        from .hydra import run

        return run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return report(error)


def discard_output() -> None:
    """The reader of what we print has left."""
    from ..output import discard

    discard(sys.stdout)


def help_text() -> str:
    """All modes with an example each, and how to set things."""
    from ..modes import MODES

    width = max(map(len, MODES))
    modes = "\n".join(
        f"  {name:<{width}}  {mode.summary}\n  {'':<{width}}  $ {PROGRAM} {mode.example}"
        for name, mode in MODES.items()
    )
    return f"""lqmf-runner {__version__}: run, measure and compare quantized language models (GGUF, bitsandbytes, GPTQ).

usage: {PROGRAM} mode=<mode> [model=<name>] [prompts=<set>] [key=value ...]

modes:
{modes}

choices (YAML files in conf/, or in a folder of your own with --config-dir):
  models    {", ".join(conf_names("model"))}
  prompts   {", ".join(conf_names("prompts"))}
  backend   {", ".join(conf_names("backend"))}
  tracking  {", ".join(conf_names("tracking"))}
  experiment  {", ".join(conf_names("experiment"))}

more:
  -m model=a,b,c      one run for each value (a sweep)
  models=[a,b,c]      several models in one run
  --cfg job           print the composed configuration and stop
  LQMF_LOG_LEVEL=DEBUG, LQMF_DEBUG=1 (tracebacks)
"""


def conf_dir() -> Path:
    """The folder of YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise LqmfError(
        "the folder conf/ is missing", hint="install lqmf-runner again: pip install --force-reinstall ."
    )


def report(error: Exception, *, job: str = "") -> int:
    """Print an error as one line and a hint on stderr; return the exit code that belongs to it."""
    if os.environ.get("LQMF_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    known = _translate(error)
    where = f"{job}: " if job else ""
    if known is None:
        print(f"error: {where}{type(error).__name__}: {error}", file=sys.stderr)
        if log_file := _log_file():
            log.error("unexpected error", exc_info=error)
            print(f"hint: the traceback is in {log_file}", file=sys.stderr)
        else:
            print("hint: set LQMF_DEBUG=1 for the traceback", file=sys.stderr)
        return 1
    print(f"error: {where}{known.message}", file=sys.stderr)
    if known.hint:
        print(f"hint: {known.hint}", file=sys.stderr)
    return known.exit_code


def conf_names(group: str) -> list[str]:
    """Names one can choose from in a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


class TerminalFilter(logging.Filter):
    """Keeps tracebacks out of the terminal: they belong in the run's log file."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record."""
        return record.exc_info is None


def _end_like_ctrl_c(*_: object) -> None:
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


def _sort_arguments(args: Sequence[str]) -> list[str]:
    """Overrides first, then options: Hydra's parser refuses overrides on both sides of an option.

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
    return [*overrides, *options]


def _translate(error: Exception) -> LqmfError | None:
    if isinstance(error, LqmfError):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f": {error.filename}" if error.filename else ""
        return LqmfError(f"{error.strerror}{where}", hint="make room, or name another place with output_dir=")
    from .config_errors import translate

    return translate(error)


def _log_file() -> str | None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            return os.path.relpath(handler.baseFilename)
    return None

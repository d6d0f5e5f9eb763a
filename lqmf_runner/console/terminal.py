"""The console's terminal: a prompt with history and completion, or plain lines without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from prompt_toolkit import PromptSession
from rich.text import Text

from ..output import OutputConsole
from .jobs import without_controls

PROMPT = "lqmf> "


class Terminal:
    """Prints to stdout and reads from stdin. Questions are asked only if somebody can answer."""

    def say(self, text: str, style: str = "") -> None:
        """Show some lines, without what would steer the terminal.

        A remark (dim) is broken between words. What may be copied, such as a command, is left to the terminal.
        """
        console = OutputConsole(highlight=False)
        remark = style == "dim" and console.is_terminal
        console.print(Text(without_controls(text), style=style), soft_wrap=not remark)

    def ask(self, question: str) -> str | None:
        """Ask, and return the answer; None at the end of the input."""
        try:
            return input(question)
        except (EOFError, KeyboardInterrupt):
            print()
            return None


class Silent(Terminal):
    """Input without a terminal: nobody answers."""

    def ask(self, question: str) -> str | None:
        """Nobody answers. The question is shown, and what to do."""
        self.say(question.rstrip())
        self.say(
            "Nobody can answer here: say it in more words, or give consent with console.confirm=false.",
            "yellow",
        )
        return None


def one_shot_screen() -> Terminal:
    """For a single sentence: with questions if stdin is a terminal."""
    return Terminal() if sys.stdin.isatty() else Silent()


class Lines:
    """Reads sentences: with editing, history and completion in a terminal, else line by line."""

    def __init__(self, history: Path, words: Sequence[str], toolbar: Callable[[], str]) -> None:
        self._session: PromptSession[str] | None = None
        if sys.stdin.isatty() and sys.stdout.isatty():
            from prompt_toolkit.completion import WordCompleter
            from prompt_toolkit.history import FileHistory, InMemoryHistory

            try:
                history.parent.mkdir(parents=True, exist_ok=True)
                history.touch(mode=0o600)
                kept: FileHistory | InMemoryHistory = FileHistory(str(history))
            except OSError:
                kept = InMemoryHistory()
            self._session = PromptSession(
                PROMPT,
                history=kept,
                completer=WordCompleter(list(words), ignore_case=True),
                complete_while_typing=False,
                bottom_toolbar=toolbar,
                refresh_interval=1.0,
            )

    @property
    def is_terminal(self) -> bool:
        """Whether a user types."""
        return self._session is not None

    def read(self) -> str | None:
        """The next sentence; empty after Ctrl-C, None at the end."""
        if self._session is None:
            line = sys.stdin.readline()
            return line.strip() if line else None
        try:
            return str(self._session.prompt()).strip()
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    def beside(self) -> AbstractContextManager[None]:
        """While it holds, what a thread prints appears above the prompt."""
        if self._session is None:
            return nullcontext()
        from prompt_toolkit.patch_stdout import patch_stdout

        return patch_stdout(raw=True)

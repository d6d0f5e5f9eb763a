"""The line in which a user types: several lines, pastes, history, completion, and the status below it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.completion import Completer
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.styles import Style

from .markdown import without_controls

QUOTES = '"""'
_LONGEST_SHOWN = 4000  # characters of a paste; longer ones would make each key slow
_LONGEST_KEPT = 20_000  # characters of a history entry
_STYLE = Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack", "prompt": "bold"})


class LeaveError(Exception):
    """The user ends the chat."""


class Prompt:
    """Asks for messages.

    Args:
        history: file of what was typed, also in earlier sessions.
        status: the line below the prompt.
        notice: shows a remark above the prompt.
    """

    def __init__(
        self, history: Path, completer: Completer, status: Callable[[], str], notice: Callable[[str], None]
    ) -> None:
        self._pastes: dict[str, str] = {}
        self._notice = notice
        self._session: PromptSession[str] = PromptSession(
            history=_KeptHistory(history),
            completer=completer,
            complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
            multiline=True,
            key_bindings=self._keys(),
            bottom_toolbar=lambda: [("class:bottom-toolbar", status())],
            prompt_continuation="  ",
            reserve_space_for_menu=4,
            style=_STYLE,
        )

    async def ask(self, default: str = "") -> str:
        """The next message.

        Raises:
            LeaveError: Ctrl-D at an empty line, or the terminal is gone.
        """
        try:
            text = await self._session.prompt_async("› ", default=default, handle_sigint=False)
        except EOFError:
            raise LeaveError from None
        for shown, pasted in self._pastes.items():
            text = text.replace(shown, pasted)
        text = text.strip()
        if text.startswith(QUOTES):
            text = text.removeprefix(QUOTES).removesuffix(QUOTES).strip()
            text = f"/{text}" if text.startswith("/") else text  # what stands in quotes is no command
        return without_controls(text)

    async def confirm(self, question: str) -> bool:
        """Whether the user says yes."""
        session: PromptSession[str] = PromptSession()
        try:
            return (await session.prompt_async(f"{question} (y/N) ")).strip().lower() in ("y", "yes")
        except (EOFError, KeyboardInterrupt):
            return False

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)  # and not in the search line

        @keys.add("enter", filter=typing)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.text.endswith("\\") and buffer.cursor_position == len(buffer.text):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            elif _is_open(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=typing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c", filter=typing)
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset(append_to_history=True)
            else:
                run_in_terminal(lambda: self._notice("Ctrl-D or /quit ends the chat."))

        @keys.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(self._pasted(event.data))

        return keys

    def _pasted(self, data: str) -> str:
        """What is shown of a paste: all of it, or its size if it is long."""
        text = without_controls(data.replace("\r\n", "\n").replace("\r", "\n"))
        if len(text) <= _LONGEST_SHOWN:
            return text
        shown = f"[paste {len(self._pastes) + 1}: {len(text):,} characters]"
        self._pastes[shown] = text
        return shown


class _KeptHistory(FileHistory):
    """History in a file for the user only. A file that cannot be written costs nothing but the history."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
        super().__init__(str(path))

    def load_history_strings(self) -> list[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        if len(string) <= _LONGEST_KEPT:
            with contextlib.suppress(OSError):
                super().store_string(string)


def _is_open(text: str) -> bool:
    """Whether a text in three quotation marks has not ended."""
    text = text.strip()
    return text.startswith(QUOTES) and (len(text) < 2 * len(QUOTES) or not text.endswith(QUOTES))

"""The chat in the terminal. `run_chat` is its entry, for the mode and for the console."""

from __future__ import annotations

from .run import run_chat

__all__ = ["run_chat"]

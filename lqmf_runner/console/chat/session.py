"""The state of a chat in a terminal: its model and conversation, how an answer is streamed, what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...config import SamplingConfig
from ...engine import EngineClient
from ...errors import ContextLengthError, EngineLostError, LqmfError
from ...types import Chunk, GenerationRequest, Usage
from . import saved
from .conversation import BROKEN, STOPPED, Conversation, Turn
from .saved import SavedChat
from .screen.answer_view import AnswerView
from .screen.markdown import open_fence, without_controls
from .targets import Target

T = TypeVar("T")


@dataclass
class Totals:
    """What the chat has used since it began."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    decode_s: float = 0.0


class StoppedError(Exception):
    """Ctrl-C ended some work; the chat goes on."""


class ChatSession:
    """A chat. `engine` is its loaded model; `close` unloads it.

    Attributes:
        confirm: asks the user whether to do something.
        usage: of the last answer.
        attached: files that go with the next message.
        draft: what stands in the next prompt.
        names: models to choose from, as last listed.
        saved_as: the file that this conversation was saved in.
    """

    def __init__(
        self,
        target: Target,
        engine: EngineClient,
        sampling: SamplingConfig,
        system: str | None,
        console: Console,
    ) -> None:
        self.target, self.engine, self.sampling, self.console = target, engine, sampling, console
        self.conversation = Conversation(system)
        self.totals = Totals()
        self.usage: Usage | None = None
        self.began = time.monotonic()
        self.confirm: Callable[[str], Awaitable[bool]] = _refuse
        self.attached: list[str] = []
        self.draft = ""
        self.names: list[str] = []
        self.saved_as: Path | None = None
        self._said_full = False
        self._lost = False
        self._work: asyncio.Task[Any] | None = None
        self._asked = ""

    # -- talking -------------------------------------------------------------------------------------------------------

    async def ask(self, text: str) -> None:
        """Send a message, with the files that are attached, and show the answer."""
        text = "\n\n".join([*self.attached, text]).strip()
        self.attached = []
        self._asked = text
        self.conversation.turns.append(Turn(user=text))
        await self._answer()

    @property
    def can_ask_again(self) -> bool:
        """Whether there is a question, answered or failed."""
        return bool(self._asked or self.conversation.turns)

    async def go_on(self) -> None:
        """Continue the last answer."""
        await self._answer()

    def take_back(self) -> Turn | None:
        """Remove the last turn, and return it. Until another question, it can be asked again."""
        turn = self.conversation.undo()
        if turn is not None:
            self._asked, self.usage = turn.user, None
        return turn

    async def again(self) -> None:
        """Ask the last question again; its answer is replaced. A question that failed is asked again too."""
        turn = None if self._asked else self.conversation.undo()
        await self.ask(turn.user if turn else self._asked)

    async def _answer(self) -> None:
        """Stream the answer to the last turn. A turn without any answer is taken back."""
        turn = self.conversation.turns[-1]
        view = AnswerView(self.console, open_fence(turn.answer))
        parts: list[str] = []
        thoughts: list[str] = []
        ended: str = BROKEN
        try:
            await self._reload_if_lost()
            async with contextlib.aclosing(self._chunks()) as chunks:
                ended = await self.interruptible(self._show(chunks, view, parts, thoughts))
        except StoppedError:
            ended = STOPPED
        finally:
            view.finish()
            turn.answer += "".join(parts)
            turn.thoughts += "".join(thoughts)
            turn.ended = ended
            if turn.answer or ended == "stop":
                self._asked = ""
            else:
                self.conversation.undo()
        self._after(turn)
        self._keep_last()

    async def _show(
        self, chunks: AsyncIterator[Chunk], view: AnswerView, parts: list[str], thoughts: list[str]
    ) -> str:
        """Show an answer as it comes, and keep its parts. Returns why it ended."""
        first, tokens, ended = 0.0, 0, BROKEN
        async for chunk in chunks:
            tokens += len(chunk.token_ids) or bool(chunk.text)
            parts.append(chunk.text)
            thoughts.append(chunk.reasoning)
            first = first or time.monotonic()
            since = time.monotonic() - first
            speed = f"{(tokens - 1) / since:.0f} tok/s · " if since > 1 else ""
            status = f"{tokens} tokens · {speed}Ctrl-C stops"
            thinking = f"thinking: {' '.join(''.join(thoughts)[-200:].split())}"
            view.feed(without_controls(chunk.text), status if any(parts) or not any(thoughts) else thinking)
            if chunk.usage is not None:
                self._count(chunk.usage)
            ended = chunk.finish_reason or ended
        return ended

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        """The answer to the last turn; the oldest turns are left out if they do not fit."""
        info, params = self.engine.info, self.sampling.params
        dropped = self.conversation.make_room(info.n_ctx, params.max_tokens)
        while True:
            self._say_full(dropped)
            request: GenerationRequest = self.conversation.request(info, params)
            try:
                async with contextlib.aclosing(self.engine.generate(request)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except ContextLengthError:
                dropped = self.conversation.drop_half()
                if not dropped:
                    raise

    def _count(self, usage: Usage) -> None:
        self.usage = usage
        self.conversation.counted(usage)
        self.totals.answers += 1
        self.totals.prompt_tokens += usage.prompt_tokens
        self.totals.completion_tokens += usage.completion_tokens
        self.totals.decode_s += usage.decode_s

    def _after(self, turn: Turn) -> None:
        if turn.ended == STOPPED:
            self.note("(stopped) /continue goes on, /retry asks again." if turn.answer else "(stopped)")
        elif turn.ended == "length":
            why = "the context is full" if self._is_full() else f"max_tokens is {self.sampling.max_tokens}"
            self.warn(f"The answer is cut: {why}. /continue goes on.")
        if self.usage and turn.ended in ("stop", "length"):
            speed = f", {_speed(self.usage):.0f} tok/s" if _speed(self.usage) else ""
            self.note(f"{self.usage.completion_tokens} tokens{speed}")

    def _say_full(self, dropped: int) -> None:
        if dropped and not self._said_full:
            self._said_full = True
            kept = " The system prompt stays." if self.conversation.system else ""
            gone = "turn is" if dropped == 1 else f"{dropped} turns are"
            self.warn(f"The context is full: the oldest {gone} no longer sent.{kept} /reset starts over.")

    # -- models --------------------------------------------------------------------------------------------------------

    async def load(self, name: str | None = None) -> EngineClient:
        """Load a model; Ctrl-C stops that.

        Raises:
            StoppedError, LqmfError: it is not loaded.
        """
        with self.console.status(f"loading {name or self.engine.info.name}"):
            engine = await self.interruptible(self.target.load(name))
        for note in engine.info.notes:
            self.warn(f"note: {note}")
        return engine

    async def replace_engine(self, name: str | None) -> None:
        """Change to another model. If it cannot be loaded, the present one stays."""
        engine = await self.load(name)
        await self.engine.close()
        self.engine = engine
        self._lost = False

    async def _reload_if_lost(self) -> None:
        if self._lost:
            await self.replace_engine(self.engine.info.name if self.engine.info.name in self.names else None)

    # -- keeping it ----------------------------------------------------------------------------------------------------

    def as_saved(self) -> SavedChat:
        """The conversation, to be written."""
        return SavedChat(
            model=self.engine.info.name,
            system=self.conversation.system,
            settings=dataclasses.asdict(self.sampling),
            turns=self.conversation.turns,
        )

    def _keep_last(self) -> None:
        """Save the conversation as the last one, so `/load last` restores it."""
        with contextlib.suppress(LqmfError):
            saved.save(saved.place(saved.LAST), self.as_saved())

    def take_up(self, chat: SavedChat) -> None:
        """Continue a saved conversation with the present model and settings."""
        self.conversation = Conversation(chat.system)
        self.conversation.turns = chat.turns
        self.usage, self._asked = None, ""
        if chat.model and chat.model != self.engine.info.name:
            self.note(f"it was a conversation with {chat.model}")

    # -- the screen ----------------------------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """Show what a command was asked for."""
        self._print(text, "")

    def show_pairs(self, rows: Mapping[str, str]) -> None:
        """Show terms with what they mean; a long meaning goes on below itself."""
        grid = Table.grid(padding=(0, 2))
        for term, meaning in rows.items():
            grid.add_row(Text(term, no_wrap=True), Text(meaning))
        self.console.print(grid)

    def note(self, text: str) -> None:
        """Show a remark of the program."""
        self._print(text, "dim")

    def warn(self, text: str) -> None:
        """Show what the user should not overlook."""
        self._print(text, "yellow")

    def fail(self, error: LqmfError) -> None:
        """Show an error, its hint, and what is still there."""
        self._lost = self._lost or isinstance(error, EngineLostError)
        self._print(f"error: {error.message}", "red")
        hint = error.hint
        if isinstance(error, ContextLengthError):
            hint = "shorten the message, or start with a larger backend.n_ctx="
        if hint:
            self.note(f"hint: {hint}")
        turns = self.conversation.turns
        if self._asked and not isinstance(error, ContextLengthError):
            self.note("/retry asks again.")
        elif turns and turns[-1].ended == BROKEN:
            self.note("What came of the answer is kept. /continue goes on, /retry asks again.")

    def _print(self, text: str, style: str) -> None:
        self.console.print(Text(without_controls(text), style=style))

    def status(self) -> str:
        """The line below the prompt: model, context used, speed, why the last answer ended."""
        info = self.engine.info
        parts = [info.name]
        if info.n_ctx and self.usage:
            parts.append(f"context {self._used()}/{info.n_ctx} ({100 * self._used() // info.n_ctx} %)")
        if self.usage and _speed(self.usage):
            parts.append(f"{_speed(self.usage):.0f} tok/s")
        if turns := self.conversation.turns:
            cut = "cut: context full" if self._is_full() else "cut at max_tokens"
            reasons = {"length": cut, "stop": "ended by itself"}
            parts.append(reasons.get(turns[-1].ended, turns[-1].ended))
        if self.attached:
            parts.append(f"{len(self.attached)} file{'s' * (len(self.attached) > 1)} attached")
        return " · ".join(parts)

    def _is_full(self) -> bool:
        return 0 < self.engine.info.n_ctx <= self._used()

    def _used(self) -> int:
        return self.usage.prompt_tokens + self.usage.completion_tokens if self.usage else 0

    async def close(self) -> None:
        """Unload the model."""
        await self.engine.close()

    # -- interruption --------------------------------------------------------------------------------------------------

    async def interruptible(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work that Ctrl-C stops.

        Raises:
            StoppedError: it was stopped.
        """
        self._work = asyncio.ensure_future(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StoppedError from None
        finally:
            self._work = None

    def interrupt(self) -> None:
        """Stop the work that is interruptible, if there is any."""
        if self._work is not None:
            self._work.cancel()


async def _refuse(_: str) -> bool:
    return False


def _speed(usage: Usage) -> float:
    """Tokens a second after the first; 0 where that cannot be said."""
    return (
        (usage.completion_tokens - 1) / usage.decode_s
        if usage.decode_s and usage.completion_tokens > 1
        else 0.0
    )

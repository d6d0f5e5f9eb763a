"""mode=console, from its settings to an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path

from ..errors import LqmfError, UserInputError
from ..formats import is_remote
from ..models import discover
from ..models.configured import configured_model
from ..redaction import redact, secrets_in
from ..runs.context import RunContext
from ..server.process.registry import ServerRecord
from ..server.process.status import examine, shown_models
from ..tracking.versions import local_names
from .actions import Actions
from .commands import Setting
from .dialogue import NOT_UNDERSTOOD, SUCCESS, Dialogue, sessions_folder
from .records import newest_report, runs_to_recommend_from
from .server_link import ServerLink, find_server, shown_key
from .session import open_session
from .terminal import Lines, Terminal, one_shot_screen
from .third_layer import Understander
from .understanding.lexicon import SPELLED
from .understanding.steps import Step
from .understanding.understand import Understanding

_OWN = ("mode", "model", "models", "~model", "experiment", "server.background", "hydra")
_LOOK_S = 5.0
_NAMES_S = 1.0  # what each sentence waits for a server that does not answer
_WELCOME = 'Say what is to be done, in plain English; "help" has examples, "exit" leaves.'


def run_console(context: RunContext, arguments: Sequence[str]) -> int:
    """Do what `console.say` says, or read from the terminal.

    Args:
        arguments: the command line of this process, whose settings each run that the console starts takes over.

    Returns:
        0; with `console.say`, 1 if a step has failed and 2 if it is not understood or needs an answer.
    """
    settings = context.config.console
    names = model_names(context)
    understanding = Understanding([*names, *versioned_names(context)])
    understander = Understander(context, understanding, lambda: [*names, *versioned_names(context)])
    try:
        if settings.dry_run:
            return _dry_run(understander.steps(settings.say or ""))
        return _converse(context, arguments, understanding, understander)
    finally:
        understander.close()


def _converse(
    context: RunContext, arguments: Sequence[str], understanding: Understanding, understander: Understander
) -> int:
    config, settings = context.config, context.config.console
    screen = Terminal() if settings.say is None else one_shot_screen()
    one_shot = settings.say is not None
    folder = sessions_folder(settings.folder, config.output_dir)
    session = open_session(folder, settings.session, one_shot=one_shot)
    output_dir = Path(config.output_dir)
    actions = Actions(screen, output_dir, config.server.port, settings.timeout_s)
    status = StatusLine(session.name, config.server.port)
    lines = None if one_shot else _lines(understanding, session.folder, status)
    dialogue = Dialogue(
        understander.steps,
        session,
        lambda: _setting(context, arguments),
        actions,
        screen,
        models=session.models if settings.session else (),
        confirm=settings.confirm,
        background=lines is not None and lines.is_terminal,
    )
    if lines is None:
        return dialogue.hear(settings.say or "")
    return _talk(dialogue, lines, screen, status)


def model_names(context: RunContext) -> list[str]:
    """The names of models that can be said: the configured ones, and those that lie in the models folder."""
    configured = [name for name in context.model_names if name != "local"]
    found = [model.name for model in discover(context.config.models_dir) if not model.problem]
    return [*configured, *(name for name in found if name not in configured)]


def versioned_names(context: RunContext) -> list[str]:
    """The names that have versions in a local registry, and those that the running server answers with versions."""
    config = context.config
    served: list[str] = []
    with contextlib.suppress(LqmfError):
        server = find_server(config.server.port)
        if server is not None:
            served = list(ServerLink(server, min(config.console.timeout_s, _NAMES_S)).versioned())
    return [*served, *local_names(config.tracking)]


def described(step: Step) -> dict[str, object]:
    """A step as `console.dry_run` prints it."""
    arguments = step.arguments | ({"choices": step.choices} if step.choices else {})
    return {
        "intent": step.intent,
        "arguments": arguments,
        "confidence": step.confidence,
        "layer": step.layer,
    }


def _dry_run(steps: Sequence[Step]) -> int:
    for step in steps:
        print(json.dumps(described(step), ensure_ascii=False))
    return SUCCESS


class StatusLine:
    """The line below the prompt: the session, and the models of the running server."""

    def __init__(self, session: str, port: int) -> None:
        self.session = session
        self._port = port
        self._server = ""

    def __call__(self) -> str:
        """The line as it was when a look at the server last ended."""
        return f" session {self.session}{self._server}"

    def look(self) -> None:
        """Look at the server again, in the background: the prompt does not wait for it."""
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            record = find_server(self._port)
        except UserInputError:
            self._server = " · several servers run"
            return
        if record is None:
            self._server = " · no server"
            return
        server = examine(record)
        answers = shown_models(server) if server["health_ms"] is not None else "does not answer"
        self._server = f" · server {record.port}: {answers}"


def _lines(understanding: Understanding, folder: Path, status: StatusLine) -> Lines:
    words = sorted({*understanding.names.names, *SPELLED})
    return Lines(folder / "history", words, status)


def _talk(dialogue: Dialogue, lines: Lines, screen: Terminal, status: StatusLine) -> int:
    """Hear sentence after sentence. Without a terminal the exit code is that of the last one that did not go well."""
    screen.say(f"session {status.session}. {_WELCOME}", "dim")
    worst = SUCCESS
    try:
        while not dialogue.left:
            if lines.is_terminal:
                status.look()
            with lines.beside():
                sentence = lines.read()
            if sentence is None:
                break
            if sentence:
                worst = dialogue.hear(sentence) or worst
    finally:
        dialogue.leave()
    return SUCCESS if lines.is_terminal else min(worst, NOT_UNDERSTOOD)


def _setting(context: RunContext, arguments: Sequence[str]) -> Setting:
    config = context.config
    kept = tuple(word for word in arguments if not _is_own(word))
    secrets = secrets_in(dataclasses.asdict(config))
    server, several = None, None
    try:
        server = find_server(config.server.port)
    except UserInputError as error:
        several = error
    output_dir = Path(config.output_dir)
    return Setting(
        overrides=kept,
        shown=tuple(redact(word, secrets) for word in kept),
        server=server.url if server else "",
        key=shown_key(),
        port=server.port if server else config.server.port,
        present=lambda: _present(context),
        loaded=_loaded(server, config.console.timeout_s),
        split=lambda: _split(server, config.console.timeout_s),
        several=several,
        runs=lambda: runs_to_recommend_from(output_dir),
        report=lambda model: str(newest_report(output_dir, model)),
    )


def _present(context: RunContext) -> list[str]:
    """The configured models whose weights are on this machine.

    Raises:
        UserInputError: there are none.
    """
    found = []
    for name in context.model_names:
        with contextlib.suppress(LqmfError):
            config = context.compose(name)
            if not is_remote(config.backend.format) and configured_model(name, config).present:
                found.append(name)
    if not found:
        raise UserInputError(
            "no configured model is on this machine", hint='say "list models" to see what is'
        )
    return found


def _loaded(server: ServerRecord | None, timeout_s: float) -> tuple[str, ...]:
    """What the server has loaded; nothing if it does not say."""
    try:
        return tuple(ServerLink(server, min(timeout_s, _LOOK_S)).loaded()) if server else ()
    except LqmfError:
        return ()


def _split(server: ServerRecord | None, timeout_s: float) -> list[str]:
    """The names whose requests several versions share; none if the server does not report them."""
    try:
        return ServerLink(server, min(timeout_s, _LOOK_S)).split() if server else []
    except LqmfError:
        return []


def _is_own(word: str) -> bool:
    """Whether an argument is of the console, or of what it decides itself."""
    key = word.partition("=")[0].lstrip("+")
    return key in _OWN or key.startswith(("mode.", "console.", "model.", "hydra."))

"""Executes commands: runs the program, asks the server, or answers from local data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..errors import UserInputError
from ..server.process.status import ready_of, shares
from .commands import Command
from .help import help_text
from .jobs import Outcome, run_in_foreground, without_controls
from .questions import Screen
from .records import MACHINE, newest_report, records
from .server_link import ServerLink, find_server
from .session import Session
from .understanding import steps


class Actions:
    """The actions of the console, besides its output.

    Args:
        port: of the server, where several run.
    """

    def __init__(self, screen: Screen, output_dir: Path, port: int, timeout_s: float) -> None:
        self._screen = screen
        self._output_dir = output_dir
        self._port = port
        self._timeout_s = timeout_s

    def run(self, command: Command) -> Outcome:
        """Run the program in the foreground."""
        return run_in_foreground(command.arguments, interactive=command.is_interactive)

    def answer(self, command: Command, session: Session) -> None:
        """Execute a command that is not a run of the program.

        Raises:
            LqmfError: the server refuses, or there is nothing to show.
        """
        step = command.step
        if command.requests or step.intent == steps.UNLOAD:
            self._ask_server(command)
        elif step.intent in (steps.REPORT, steps.RECOMMEND):
            self._show_report(newest_report(self._output_dir, _about(command)))
        elif step.intent == steps.STATISTICS:
            self._statistics(session)
        else:
            self._screen.say(help_text(step.arguments.get("topic")))

    def _show_report(self, path: Path) -> None:
        """The report as text, and where the one with plots lies: a terminal cannot open it.

        Without the machine and the configuration, which are longer than the results.
        """
        self._screen.say(path.read_text("utf-8").partition(f"\n{MACHINE}\n")[0])
        page = path.with_suffix(".html")
        if page.exists():
            self._screen.say(f"with plots, for a browser: {page.resolve().as_uri()}", "cyan")

    def measured(self, seconds: float) -> tuple[int, int]:
        """Requests and output tokens in the results that runs have left in the last seconds."""
        since = time.time() - seconds - 1.0
        requests = tokens = 0
        for record in records(self._output_dir):
            if (record.folder / "results.json").stat().st_mtime < since:
                break
            if record.results.run.compares:
                continue
            for model in record.results.models:
                requests += sum(load.requests for load in model.loads)
                tokens += sum(load.output_tokens for load in model.loads)
        return requests, tokens

    def _ask_server(self, command: Command) -> None:
        server = find_server(self._port)
        if server is None:
            raise UserInputError("no server is running", hint='say "start the server" first')
        link = ServerLink(server, self._timeout_s)
        if not command.requests:
            if names := link.loaded():
                raise UserInputError(f"now there is {', '.join(names)}", hint="say it again")
            self._screen.say("no model is loaded")
        for request in command.requests:
            answer = link.ask(request.method, request.path, request.body)
            if request.path == "/models":
                self._say_loaded(answer)
            elif "now" in answer:
                now, before = shares(answer["now"]), shares(answer["before"])
                self._screen.say(f"{answer['name']}: {now} answers now, before {before}", "green")
            else:
                self._say_model(answer)

    def _say_model(self, answer: dict[str, Any]) -> None:
        state = answer["state"]
        if answer.get("already_loaded"):
            state = "loaded already"
        elif answer.get("was_loaded") is False:
            state = "not loaded"
        memory = f", {answer['memory_mb']:.0f} MB" if answer.get("memory_mb") else ""
        self._screen.say(f"{answer['name']}: {state}{memory}{_replicas(answer)}", "green")
        for note in answer.get("notes", []):
            self._screen.say(f"note: {note}", "yellow")

    def _say_loaded(self, answer: dict[str, Any]) -> None:
        if not answer["models"]:
            self._screen.say("no model is loaded")
        for model in answer["models"]:
            memory = f"{model['memory_mb']:.0f} MB"
            self._screen.say(f"{model['name']}: {model['state']}, {memory}{_replicas(model)}")

    def _statistics(self, session: Session) -> None:
        figures = session.statistics()
        width = max(map(len, figures))
        self._screen.say(f"session {session.name}")
        self._screen.say("\n".join(f"  {name:<{width}}  {value:g}" for name, value in figures.items()))
        try:
            server = find_server(self._port)
        except UserInputError:  # several: none of them is this session's
            return
        if server is None:
            return
        stats = ServerLink(server, self._timeout_s).ask("GET", "/stats")
        self._screen.say(f"server {server.url}")
        flat = {key: value for key, value in stats.items() if isinstance(value, (int, float, str))}
        width = max(map(len, flat), default=0)
        self._screen.say(
            "\n".join(f"  {key:<{width}}  {without_controls(str(v))}" for key, v in flat.items())
        )


def _replicas(answer: dict[str, Any]) -> str:
    """ ", replicas: 2 of 3 ready (local)" of a model that has some."""
    replicas = answer.get("replicas")
    return f", replicas: {ready_of(replicas)}" if replicas else ""


def _about(command: Command) -> str | None:
    arguments = command.step.arguments
    return arguments.get("model") or arguments.get("why")

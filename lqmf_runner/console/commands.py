"""From what is understood to what does it: the program's own command line, or a request to a running server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserInputError
from ..formats import find_format
from .understanding import steps
from .understanding.steps import Step

PROGRAM = "lqmf"
_APOSTROPHE = re.compile(r"[\w\s.,:;?()=/-]*'[\w\s.,:;?()=/'-]*", re.ASCII)
NO_SERVER = "no server is running"


@dataclass(frozen=True)
class Command:
    """What does a step.

    Attributes:
        shown: the command line that does the same, ready to be pasted.
        arguments: of the program, for a step that is a run of it.
        request: method and path, for a step that asks the running server.
        consent: why the user is asked first; empty if not.
        is_long: it takes minutes.
        is_interactive: it needs the terminal.
    """

    step: Step
    shown: str = ""
    arguments: tuple[str, ...] = ()
    request: tuple[str, str] | None = None
    consent: str = ""
    is_long: bool = False
    is_interactive: bool = False


@dataclass(frozen=True)
class Setting:
    """What commands are made in.

    Attributes:
        overrides: the settings of the console itself, which each run of the program takes over.
        shown: the same without secrets.
        server: address of the running server; empty if there is none.
        port: of the server that runs, or of one that would be started.
        loaded: the models that the running server has loaded.
        several: why no server is the one that is meant, where several run.
        present: gives the configured models whose weights are on this machine.
        runs: gives the finished runs that a recommendation is made from.
        report: gives the newest report, of a model if one is named.
    """

    overrides: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    server: str = ""
    port: int = 8000
    loaded: tuple[str, ...] = ()
    several: UserInputError | None = None
    present: Callable[[], Sequence[str]] = list
    runs: Callable[[], Sequence[str]] = list
    report: Callable[[str | None], str] = field(default=lambda model: "")


def command_of(step: Step, setting: Setting) -> Command:
    """What does a step that has nothing open.

    Raises:
        UserInputError: it cannot be done; the hint says what to do before.
    """
    return _MAKERS[step.intent](step, setting)


def _program(step: Step, setting: Setting, *own: str, text: str | None = None, **more: Any) -> Command:
    """A run of the program. Its own settings win over those of the console.

    Args:
        own: its words and settings, the mode first.
        text: what stands last, as it is.
    """
    keys = {word.partition("=")[0] for word in own}
    kept = [word for word in setting.overrides if word.partition("=")[0] not in keys]
    shown = [word for word in setting.shown if word.partition("=")[0] not in keys]
    last = [] if text is None else ["--", text] if text[:1] == "-" or "=" in text else [text]
    return Command(step, shell_line(PROGRAM, *own, *shown, *last), (*own, *kept, *last), **more)


def shell_line(*words: str) -> str:
    """The words as a shell reads them, in double quotes where that is easier to read."""
    return " ".join(f'"{word}"' if _APOSTROPHE.fullmatch(word) else shlex.quote(word) for word in words)


def _request(step: Step, setting: Setting, method: str, path: str, **more: Any) -> Command:
    if setting.several is not None:
        raise setting.several
    if not setting.server:
        raise UserInputError(NO_SERVER, hint='say "start the server" first')
    verb = [] if method == "GET" else ["-X", method]
    return Command(
        step, shlex.join(["curl", *verb, f"{setting.server}{path}"]), request=(method, path), **more
    )


def _load(step: Step, setting: Setting) -> Command:
    name = step.arguments["model"]
    if setting.server or setting.several:
        return _request(step, setting, "POST", f"/models/{name}/load")
    return _program(
        step, setting, "serve", name, "server.background=true",
        consent=f"{NO_SERVER}: this starts one with {name}",
    )  # fmt: skip


def _unload(step: Step, setting: Setting) -> Command:
    if step.arguments.get("all"):
        return _request(step, setting, "POST", "/models/*/unload", consent="this unloads all models")
    return _request(step, setting, "POST", f"/models/{step.arguments['model']}/unload")


def _start(step: Step, setting: Setting) -> Command:
    models = step.models or ["model=null"]
    port = step.arguments.get("port")
    own = [f"server.port={port}"] if port else []
    return _program(step, setting, "serve", *models, "server.background=true", *own)


def _stop(step: Step, setting: Setting) -> Command:
    if step.arguments.get("all"):
        return _program(step, setting, "stop", "all", consent="this stops all servers")
    port = step.arguments.get("port", setting.port)
    return _program(
        step, setting, "stop", f"server.port={port}", consent=f"this stops the server on port {port}"
    )


def _chat(step: Step, setting: Setting) -> Command:
    name = step.arguments["model"]
    return _program(step, setting, "chat", name, *_where(name, setting), is_interactive=True)


def _where(name: str, setting: Setting) -> list[str]:
    """The server, if it has the model loaded: it need not be loaded twice."""
    return [f"server.url={setting.server}"] if name in setting.loaded else []


def _experiment(step: Step, setting: Setting) -> Command:
    kind, names = step.arguments["kind"], step.models
    users = step.arguments.get("users")
    load = [f"mode.concurrency=[{users}]"] if users else []
    if kind in ("single", "batch") and len(names) != 1:
        raise UserInputError(
            f"a {kind} experiment takes one model", hint="name one, or say benchmark or compare"
        )
    if step.arguments.get("all"):
        names = list(setting.present())
    if kind == "single":
        where = _where(names[0], setting)
        return _program(step, setting, "chat", *names, *where, text=step.arguments["message"])
    long: dict[str, Any] = {"consent": "this may take minutes", "is_long": True}
    if kind == "batch":
        return _program(step, setting, "batch", *names, step.arguments["file"], **long)
    if kind == "compare":
        reference = step.arguments.get("reference")
        own = [f"reference={reference}"] if reference else []
        return _program(step, setting, "compare", *names, *own, *load, **long)
    prompts = ["prompts=conversation"] if kind == "conversation" else []
    return _program(step, setting, "benchmark", *names, *prompts, *load, **long)


def _list_models(step: Step, setting: Setting) -> Command:
    if step.arguments.get("scope") == "loaded":
        return _request(step, setting, "GET", "/models")
    return _program(step, setting, "models")


def _history(step: Step, setting: Setting) -> Command:
    show = [] if step.intent == steps.LIST_EXPERIMENTS else ["mode.show=trend"]
    own = [model] if (model := step.arguments.get("model")) else []
    own += [f"mode.since={since}"] if (since := step.arguments.get("since")) else []
    own += ["mode.regressions=true"] if step.arguments.get("regressions") else []
    return _program(step, setting, "history", *own, *show)


def _report(step: Step, setting: Setting) -> Command:
    path = setting.report(step.arguments.get("model"))
    return Command(step, shlex.join(["cat", path]))


_WEIGHTS = {
    "speed": ("verdict.weights.memory=0", "verdict.weights.fidelity=0"),
    "memory": ("verdict.weights.speed=0", "verdict.weights.fidelity=0"),
    "fidelity": ("verdict.weights.speed=0", "verdict.weights.memory=0"),
}


def _recommend(step: Step, setting: Setting) -> Command:
    if "why" in step.arguments:
        return _report(Step(intent=steps.REPORT, arguments={"model": step.arguments["why"]}), setting)
    own = [f"runs=[{','.join(setting.runs())}]"]
    limit, users = step.arguments.get("max_memory_mb"), step.arguments.get("users")
    own += [f"verdict.max_memory_mb={limit}"] if limit else []
    own += [f"verdict.concurrency={users}"] if users else []
    own += _WEIGHTS.get(step.arguments.get("optimize", ""), ())
    return _program(step, setting, "compare", *own, "tracking=none")


# The GGUF type of so many bits, if no type is named.
_TYPES = {None: "Q4_0", 4: "Q4_0", 8: "Q8_0", 2: "Q2_K", 3: "Q3_K_M", 5: "Q5_K_M", 6: "Q6_K", 16: "F16"}


def _quantize(step: Step, setting: Setting) -> Command:
    said = step.arguments
    method, bits = said.get("method", "bnb"), said.get("bits")
    format = find_format(method)
    own = [method]
    if format is not None and format.single_file:
        if not said.get("type") and bits not in _TYPES:
            there = ", ".join(str(number) for number in _TYPES if number)
            raise UserInputError(
                f"there is no GGUF type of {bits} bits", hint=f"there are types of {there} bits"
            )
        own += [said.get("type") or _TYPES[bits]]
    elif format is not None and bits:
        own += [str(bits)]
    return _program(
        step, setting, "quantize", said["model"], *own,
        consent="this takes minutes and makes a new model", is_long=True,
    )  # fmt: skip


def _pull(step: Step, setting: Setting) -> Command:
    raise UserInputError(
        "the console does not download models yet",
        hint=f"hf download {step.arguments['id']} --local-dir quantized-models/{step.arguments['id'].split('/')[-1]}",
    )


def _built_in(step: Step, setting: Setting) -> Command:
    return Command(step)


_MAKERS: dict[str, Callable[[Step, Setting], Command]] = {
    steps.LOAD: _load,
    steps.UNLOAD: _unload,
    steps.START: _start,
    steps.STOP: _stop,
    steps.STATUS: lambda step, setting: _program(step, setting, "status"),
    steps.CHAT: _chat,
    steps.EXPERIMENT: _experiment,
    steps.LIST_MODELS: _list_models,
    steps.LIST_EXPERIMENTS: _history,
    steps.HISTORY: _history,
    steps.REPORT: _report,
    steps.STATISTICS: _built_in,
    steps.RECOMMEND: _recommend,
    steps.QUANTIZE: _quantize,
    steps.PULL: _pull,
    steps.PROGRESS: _built_in,
    steps.CANCEL: _built_in,
    steps.HELP: _built_in,
    steps.EXIT: _built_in,
}

"""From an understood step to its command: the program's own command line, or a request to a running server."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..errors import UserInputError
from .records import MACHINE
from .understanding import steps
from .understanding.made import quantize_settings
from .understanding.steps import Step

PROGRAM = "lqmf"
_APOSTROPHE = re.compile(r"[\w\s.,:;?()=/-]*'[\w\s.,:;?()=/'-]*", re.ASCII)
NO_SERVER = "no server is running"


@dataclass(frozen=True)
class Request:
    """A request to the running server; `body` is sent as JSON."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Command:
    """What does a step.

    Attributes:
        shown: the command line that does the same, ready to be pasted.
        arguments: of the program, for a step that is a run of it.
        requests: for a step that asks the running server.
        consent: why the user is asked first; empty if not.
        is_long: it takes minutes.
        is_interactive: it needs the terminal.
    """

    step: Step
    shown: str = ""
    arguments: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
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
        key: what a shell replaces by the server's key, "$LQMF_API_KEY"; empty without a key.
        port: of the server that runs, or of one that would be started.
        loaded: the models that the running server has loaded.
        split: gives the names whose requests several versions share on the running server.
        several: why no server is the one that is meant, where several run.
        present: gives the configured models whose weights are on this machine.
        runs: gives the finished runs that a recommendation is made from.
        report: gives the newest report, of a model if one is named.
    """

    overrides: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    server: str = ""
    key: str = ""
    port: int = 8000
    loaded: tuple[str, ...] = ()
    split: Callable[[], Sequence[str]] = list
    several: UserInputError | None = None
    present: Callable[[], Sequence[str]] = list
    runs: Callable[[], Sequence[str]] = list
    report: Callable[[str | None], str] = field(default=lambda model: "")


def command_of(step: Step, setting: Setting) -> Command:
    """The command of a step without ambiguities.

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


def _request(step: Step, setting: Setting, *requests: Request, **more: Any) -> Command:
    if setting.several is not None:
        raise setting.several
    if not setting.server:
        raise UserInputError(NO_SERVER, hint='say "start the server" first')
    shown = "; ".join(_curl(setting, request) for request in requests)
    return Command(step, shown, requests=requests, **more)


def _curl(setting: Setting, request: Request) -> str:
    """The request in a shell. The key is not shown: the shell takes it from where the console has it."""
    verb = [] if request.method == "GET" or request.body is not None else ["-X", request.method]
    # The server's certificate is self-signed.
    insecure = ["-k"] if setting.server.startswith("https:") else []
    key = f' -H "Authorization: Bearer {setting.key}"' if setting.key else ""
    curl = f"{shlex.join(['curl', *insecure, *verb])}{key} {shlex.quote(setting.server + request.path)}"
    if request.body is None:
        return curl
    return f"{curl} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(request.body))}"


def _post(name: str, action: str, **body: Any) -> Request:
    """What a model is to do."""
    return Request("POST", f"/models/{quote(name, safe='')}/{action}", body or None)


def _load(step: Step, setting: Setting) -> Command:
    name = step.arguments["model"]
    if setting.server or setting.several:
        return _request(step, setting, _post(name, "load"))
    return _program(
        step, setting, "serve", name, "server.background=true",
        consent=f"{NO_SERVER}: this starts one with {name}",
    )  # fmt: skip


def _unload(step: Step, setting: Setting) -> Command:
    if step.arguments.get("all"):
        each = [_post(name, "unload") for name in setting.loaded]
        consent = f"this unloads {', '.join(setting.loaded)}" if each else ""
        return _request(step, setting, *each, consent=consent)
    return _request(step, setting, _post(step.arguments["model"], "unload"))


def _start(step: Step, setting: Setting) -> Command:
    models = step.models or ["model=null"]
    port = step.arguments.get("port")
    own = [f"server.port={port}"] if port else []
    own += [f"placement.replicas={replicas}"] if (replicas := step.arguments.get("replicas")) else []
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
    users = users if isinstance(users, list) else [users] if users else []
    load = [f"mode.concurrency=[{','.join(map(str, users))}]"] if users else []
    file = str(step.arguments.get("file") or "")
    asked = [f"prompts={file}"] if file else []
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
        return _program(step, setting, "batch", *names, file, **long)
    if kind == "compare":
        reference = step.arguments.get("reference")
        own = [f"reference={reference}"] if reference else []
        own += _limits(step)
        return _program(step, setting, "compare", *names, *own, *asked, *load, **long)
    prompts = ["prompts=conversation"] if kind == "conversation" else asked
    return _program(step, setting, "benchmark", *names, *prompts, *load, **long)


def _limits(step: Step) -> list[str]:
    """The limits of a verdict in the sentence."""
    bounds = ("max_memory_mb", "min_tokens_per_s")
    return [f"verdict.{bound}={step.arguments[bound]:g}" for bound in bounds if bound in step.arguments]


def _list_models(step: Step, setting: Setting) -> Command:
    if step.arguments.get("scope") == "loaded":
        return _request(step, setting, Request("GET", "/models"))
    return _program(step, setting, "models")


def _history(step: Step, setting: Setting) -> Command:
    show = [] if step.intent == steps.LIST_EXPERIMENTS else ["mode.show=trend"]
    own = [model] if (model := step.arguments.get("model")) else []
    own += [f"mode.limit={limit}"] if (limit := step.arguments.get("limit")) else []
    own += [f"mode.since={since}"] if (since := step.arguments.get("since")) else []
    own += ["mode.regressions=true"] if step.arguments.get("regressions") else []
    return _program(step, setting, "history", *own, *show)


def _report(step: Step, setting: Setting) -> Command:
    path = setting.report(step.arguments.get("model"))
    return Command(step, shlex.join(["sed", f"/^{MACHINE}$/,$d", path]))


_WEIGHTS = {
    "speed": ("verdict.weights.memory=0", "verdict.weights.fidelity=0"),
    "memory": ("verdict.weights.speed=0", "verdict.weights.fidelity=0"),
    "fidelity": ("verdict.weights.speed=0", "verdict.weights.memory=0"),
}


def _recommend(step: Step, setting: Setting) -> Command:
    if "why" in step.arguments:
        return _report(Step(intent=steps.REPORT, arguments={"model": step.arguments["why"]}), setting)
    own = [f"runs=[{','.join(setting.runs())}]"]
    users = step.arguments.get("users")
    own += _limits(step)
    own += [f"verdict.concurrency={users}"] if users else []
    own += _WEIGHTS.get(step.arguments.get("optimize", ""), ())
    return _program(step, setting, "compare", *own, "tracking=none")


def _quantize(step: Step, setting: Setting) -> Command:
    own = [str(value) for value in quantize_settings(step.arguments).values()]
    return _program(
        step, setting, "quantize", step.arguments["model"], *own,
        consent="this takes minutes and makes a new model", is_long=True,
    )  # fmt: skip


def _pull(step: Step, setting: Setting) -> Command:
    return _program(
        step, setting, "pull", step.arguments["id"],
        consent="this downloads a model, perhaps of gigabytes; --dry-run says how much", is_long=True,
    )  # fmt: skip


def _versions(step: Step, setting: Setting) -> Command:
    model = step.arguments.get("model")
    return _program(step, setting, "versions", *([model] if model else []))


def _promote(step: Step, setting: Setting) -> Command:
    """On the running server, where the version is loaded and takes over; without one in the registry alone."""
    name, which = step.arguments["model"], step.arguments["version"]
    if setting.server or setting.several:
        request = _post(name, "promote", version=which)
        return _request(step, setting, request, consent=f"{which} of {name} then answers its requests")
    return _program(
        step, setting, "versions", f"{name}@{which}", "mode.alias=champion",
        consent=f"{NO_SERVER}: this only puts the alias champion of {name} on {which}",
    )  # fmt: skip


def _roll_back(step: Step, setting: Setting) -> Command:
    name = step.arguments["model"]
    if not setting.server and not setting.several:
        raise UserInputError(
            NO_SERVER, hint=f'say "which versions of {name} are there?", then "promote version 1 of {name}"'
        )
    return _request(
        step, setting, _post(name, "rollback"),
        consent=f"the champion of {name} before the present one then answers its requests",
    )  # fmt: skip


def _judge(step: Step, setting: Setting) -> Command:
    if not setting.server and not setting.several:
        raise nothing_split(setting)
    return _program(step, setting, "compare", f"mode.served={step.arguments['model']}")


def nothing_split(setting: Setting) -> UserInputError:
    """That there are no versions that could be judged by what they serve, and what to do."""
    if setting.server:
        return UserInputError(
            "no name on this server has several versions that share its requests",
            hint="server.split= or POST /models/<name>/split begins a split (docs/serving/operating.md)",
        )
    return UserInputError(
        f"{NO_SERVER}, and versions are judged by what one serves",
        hint="for a server that has ended: lqmf compare --served <name> 'runs=[outputs/<date>/<time>-serve]'",
    )


def _scale(step: Step, setting: Setting) -> Command:
    name, said = step.arguments["model"], str(step.arguments["replicas"])
    if not said.isdecimal() or int(said) < 1:
        raise UserInputError(f"'{said}' is no number of replicas", hint="say how many, from 1 on")
    replicas = int(said)
    consent = f"{name} then has {replicas} replica{'s' * (replicas > 1)}, each with memory of its own"
    if setting.server or setting.several:
        return _request(step, setting, _post(name, "scale", replicas=replicas), consent=consent)
    return _program(
        step, setting, "serve", name, "server.background=true", f"placement.replicas={replicas}",
        consent=f"{NO_SERVER}: this starts one; {consent}",
    )  # fmt: skip


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
    steps.VERSIONS: _versions,
    steps.PROMOTE: _promote,
    steps.ROLL_BACK: _roll_back,
    steps.JUDGE: _judge,
    steps.SCALE: _scale,
    steps.PROGRESS: _built_in,
    steps.CANCEL: _built_in,
    steps.HELP: _built_in,
    steps.EXIT: _built_in,
}

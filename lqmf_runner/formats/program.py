"""Checkpoints that another program serves, which is started here and speaks OpenAI's API: vLLM, SGLang."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..config import BackendConfig
from ..config.checks import positive
from ..config.texts import Name
from ..errors import UserInputError

_KEY = "--api-key"


@dataclass(frozen=True)
class ProgramBackend(BackendConfig):
    """A program that is started for the model. It gets `n_ctx` and `max_slots` where they are given.

    Attributes:
        command: the program and its first arguments.
        flags: its own settings by name, `{tensor_parallel_size: 2}`; true is a flag without a value, false and null
            leave it out, a list repeats its value.
        timeout_s: of a request.
        load_timeout_s: large models take long to load and to compile.
    """

    command: list[Name] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)
    max_slots: int = 256
    timeout_s: float = 600.0
    load_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("backend.timeout_s", self.timeout_s)
        if not self.command:
            raise UserInputError("backend.command is empty", hint="name the program, e.g. [vllm,serve]")
        for name, value in self.flags.items():
            if not re.fullmatch(r"[A-Za-z][\w-]*", str(name)):
                raise UserInputError(f"backend.flags: '{name}' is not the name of a flag")
            if isinstance(value, dict):
                raise UserInputError(
                    f"backend.flags.{name} is a group", hint="give it as JSON text, as the program takes it"
                )


@dataclass(frozen=True)
class Program:
    """The command line of such a program.

    The key that clients have to send is not on it, as every user of the machine can read command lines.

    Attributes:
        model: words before the model; none where it is the next word.
        context, slots: flags of the longest context, and of the sequences that run at the same time.
        key_variable: environment variable with the key.
        key_file: if it takes none, flag of a YAML file with further flags, the key's among them.
        install: the command that installs it.
        reserved: flags that are set here and cannot be in `backend.flags`.
    """

    model: tuple[str, ...]
    context: str
    slots: str
    install: str
    key_variable: str = ""
    key_file: str = ""

    @property
    def reserved(self) -> frozenset[str]:
        """See the class."""
        others = {"--host", "--port", "--served-model-name", _KEY}
        return frozenset({*self.model, self.context, self.slots, self.key_file, *others})

    def arguments(
        self, backend: dict[str, Any], *, model: str, name: str, host: str, port: int, key_file: str = ""
    ) -> list[str]:
        """The whole command line.

        Args:
            backend: the fields of a `ProgramBackend`.
            model: a folder, or an id on the hub.
            name: the name under which it is served.
            host: the address at which it listens.
            key_file: path of a file with `key_flags`, for a program that has no `key_variable`.

        Raises:
            UserInputError: a flag is set that is given here.
        """
        words = [*backend["command"], *self.model, model]
        words += ["--host", host, "--port", str(port), "--served-model-name", name]
        if backend.get("n_ctx"):
            words += [self.context, str(backend["n_ctx"])]
        words += [self.slots, str(backend["max_slots"])]
        if self.key_file:
            words += [self.key_file, key_file]
        for given, value in backend["flags"].items():
            flag = "--" + str(given).lstrip("-").replace("_", "-")
            if flag in self.reserved:
                raise UserInputError(
                    f"backend.flags.{given} is set by this program",
                    hint="the context is backend.n_ctx, the number of sequences backend.max_slots; "
                    "settings of a file of its own belong into backend.flags",
                )
            if value is True:
                words.append(flag)
            elif value is not None and value is not False:
                words += [flag, *(map(str, value) if isinstance(value, list | tuple) else [str(value)])]
        return words

    def key_flags(self, key: str) -> str:
        """What the key's file says, in YAML."""
        return f"{_KEY.removeprefix('--')}: {key}\n"

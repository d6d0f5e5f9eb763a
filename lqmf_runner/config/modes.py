"""The settings of the modes; those of benchmark and compare are in `benchmark.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import UserInputError
from .checks import MISSING, alias_name, at_least, one_of, within
from .prompts import SamplingConfig
from .texts import FilePath, Name, OptionalText, Text


@dataclass(frozen=True)
class ModeConfig:
    """Base of the modes' own settings."""

    name: str = MISSING


@dataclass(frozen=True)
class BatchMode(ModeConfig):
    """Answer every line of a file.

    Attributes:
        input: JSONL, CSV, XLSX, text with one prompt a line, or OpenAI's batch format.
        input_format: which of them: "jsonl", "csv", "text" or "openai"; null looks at the content and the suffix.
        output: JSONL with an answer a line, in OpenAI's format if the input is; null is `questions.answers.jsonl` for
            `questions.txt`. Lines that it already answers are not asked again. A name that ends in .csv, .tsv or
            .xlsx is a table of the input and its answers; the lines of JSON are beside it. For a table, null is
            `sheet.answers.csv`.
        prompt_field: name of the prompt in JSONL and tables; null is "prompt", or the one that is clear from the names
            and the values. In a terminal the user is asked where it is not clear.
        dry_run: answer the first three lines, show them, and write nothing.
        system: system prompt for lines that have none.
        concurrency: lines in progress at the same time.
        retries: attempts after a temporary error: a busy engine, a broken connection.
        retry_wait_s: wait before the first retry; each later one waits twice as long.
        sampling: values for what a line does not set.
    """

    name: str = "batch"
    input: FilePath | None = None
    input_format: str | None = None
    output: FilePath | None = None
    prompt_field: OptionalText | None = None
    dry_run: bool = False
    system: OptionalText | None = None
    concurrency: int = 8
    retries: int = 3
    retry_wait_s: float = 1.0
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=512))

    def __post_init__(self) -> None:
        for name, low in (("concurrency", 1), ("retries", 0)):
            at_least(f"mode.{name}", getattr(self, name), low)
        if self.input_format is not None:
            one_of("mode.input_format", self.input_format, ("jsonl", "csv", "text", "openai"))
        within("mode.retry_wait_s", self.retry_wait_s, 0)


@dataclass(frozen=True)
class QuantizeMode(ModeConfig):
    """Make a quantized model from `model` (unquantized, or a GGUF).

    Attributes:
        method: "bnb", "gptq", "gguf" or "bf16" (an unquantized Hugging Face folder, from a GGUF).
        bits: 4 or 8 for bnb; 2, 3, 4 or 8 for gptq.
        type: GGUF type, e.g. "Q4_0", "Q8_0".
        double_quant: bnb 4-bit: quantize the scales too.
        group_size: gptq: weights that share a scale.
        calibration: gptq: a text file; null is the text that ships with the program.
        output: name of the folder to make in `models_dir`; null is `<model>_<method>_<bits>bit`.
        overwrite: replace an existing folder; otherwise it is kept and checked.
    """

    name: str = "quantize"
    method: str = "bnb"
    bits: int = 4
    type: str = "Q4_0"
    double_quant: bool = False
    group_size: int = 64
    calibration: FilePath | None = None
    calibration_samples: int = 128
    calibration_tokens: int = 512
    output: FilePath | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        one_of("mode.method", self.method, ("bnb", "gptq", "gguf", "bf16"))


@dataclass(frozen=True)
class PullMode(ModeConfig):
    """Fetch `model` from the hub into the models folder.

    Attributes:
        output: name of its folder there; null is the model's own path, or the repository's name.
        dry_run: say what it takes, and fetch nothing.
        pickles: fetch weights in pickles (.bin) where there are no others. They do not run here.
        overwrite: replace files that came from an older commit.
    """

    name: str = "pull"
    output: Name | None = None
    dry_run: bool = False
    pickles: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.output is not None and ("/" in self.output or self.output[:1] in ("", ".")):
            raise UserInputError(
                f"mode.output={self.output} is not the name of a folder",
                hint="models_dir=<folder> puts it elsewhere",
            )


@dataclass(frozen=True)
class ModelsMode(ModeConfig):
    """List the models there are. `format`: "table" or "json"."""

    name: str = "models"
    format: str = "table"

    def __post_init__(self) -> None:
        one_of("mode.format", self.format, ("table", "json"))


@dataclass(frozen=True)
class HistoryMode(ModeConfig):
    """Past runs from MLflow, one line for each model of a run.

    Attributes:
        show: "all" runs, the "latest" of each model and mode, the "best" of each by `metric`, or the "trend": each run
            compared with the comparable one before it.
        model, format, mode: show only runs of these; `*` stands for any characters ("qwen_*").
        since: show only runs since then: "12h", "7d", "4w", or a date like "2026-01-31".
        metric: an MLflow name, e.g. "c8/ttft_s.p50", for best and trend; null is the output tokens per second of the
            load with the fewest users.
        regressions: show only runs that are worse than those before them.
        limit: the number of lines; the newest runs are shown.
        output: "table" or "json".
        send: first send the runs in output_dir that could not be sent when they ended.
    """

    name: str = "history"
    show: str = "all"
    model: Name | None = None
    format: Name | None = None
    mode: Name | None = None
    since: Name | None = None
    metric: Name | None = None
    regressions: bool = False
    limit: int = 30
    output: str = "table"
    send: bool = False

    def __post_init__(self) -> None:
        one_of("mode.show", self.show, ("all", "latest", "best", "trend"))
        one_of("mode.output", self.output, ("table", "json"))
        at_least("mode.limit", self.limit, 1)


@dataclass(frozen=True)
class VersionsMode(ModeConfig):
    """Versions of weights that were measured or served, from MLflow's registry.

    Attributes:
        model: show only this one, "qwen" or "qwen@3"; `*` stands for any characters.
        compare: two or more versions whose last figures are laid side by side.
        alias: put this alias on the version that `model` names.
        remove: take this alias away, "qwen@candidate".
        format: "table" or "json".
    """

    name: str = "versions"
    model: Name | None = None
    compare: list[Name] = field(default_factory=list)
    alias: Name | None = None
    remove: Name | None = None
    format: str = "table"

    def __post_init__(self) -> None:
        one_of("mode.format", self.format, ("table", "json"))
        alias_name("mode.alias", self.alias)
        for name, value in (("mode.remove", self.remove), ("mode.model", self.alias and (self.model or ""))):
            if value is not None and "@" not in value:
                raise UserInputError(
                    f"{name}={value} names no version", hint="write model@number or model@alias"
                )
        if len(self.compare) == 1:
            raise UserInputError(f"mode.compare=[{self.compare[0]}] is one version", hint="name two or more")


@dataclass(frozen=True)
class ChatMode(ModeConfig):
    """Talk to a model in the terminal.

    Attributes:
        message: answer this and end.
        script: answer the turns of the prompt set's entry with this id and end.
        system: system prompt; null is the script's, if it has one.
        json: print the answer to a message as a JSON object with its tokens, times and finish reason.
        schema: a file with a JSON schema that the answer to a message must match.
    """

    name: str = "chat"
    message: Text | None = None
    script: Name | None = None
    system: OptionalText | None = None
    json: bool = False
    schema: FilePath | None = None
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(max_tokens=512, temperature=0.7, top_p=0.95, seed=None)
    )


@dataclass(frozen=True)
class ConsoleMode(ModeConfig):
    """Say in plain English what is to be done; see `ConsoleConfig`."""

    name: str = "console"


@dataclass(frozen=True)
class ServeMode(ModeConfig):
    """Serve models over HTTP; see `ServerConfig`."""

    name: str = "serve"


@dataclass(frozen=True)
class StatusMode(ModeConfig):
    """Show the servers that run. `format`: "table" or "json"."""

    name: str = "status"
    format: str = "table"

    def __post_init__(self) -> None:
        one_of("mode.format", self.format, ("table", "json"))


@dataclass(frozen=True)
class StopMode(ModeConfig):
    """Stop the server on `server.port`, or without a port the only one there is.

    Attributes:
        all: stop every server of this user instead.
        force: kill it, without waiting for its requests.
        timeout_s: longest wait for its end.
        format: "text" or "json".
    """

    name: str = "stop"
    all: bool = False
    force: bool = False
    timeout_s: float = 60.0
    format: str = "text"

    def __post_init__(self) -> None:
        within("mode.timeout_s", self.timeout_s, 0)
        one_of("mode.format", self.format, ("text", "json"))


@dataclass(frozen=True)
class KeysMode(ModeConfig):
    """Make, remove or list the API keys in `server.keys_file`.

    Attributes:
        add: make a key with this name and print it. It cannot be shown again.
        role: role of the new key, "use", "admin" (load and unload) or "both".
        remove: remove the key with this name.
    """

    name: str = "keys"
    add: Name | None = None
    role: str = "use"
    remove: Name | None = None

    def __post_init__(self) -> None:
        one_of("mode.role", self.role, ("use", "admin", "both"))
        if self.add is not None and self.remove is not None:
            raise UserInputError("mode.add and mode.remove cannot go together", hint="run it twice")

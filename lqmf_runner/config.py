"""Typed schemas of the configuration: what a user may set, with defaults and units.

`conf/` mirrors these classes. They are frozen, do no I/O, and are plain objects everywhere but in `cli.py`,
which composes them with Hydra. Validation that needs more than a type lives in `__post_init__`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from .errors import UserInputError
from .types import SamplingParams

MISSING: Any = "???"  # OmegaConf's mark for a value that must be given


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and where its weights may be. The first place that exists wins: path, package, hub.

    Attributes:
        path: folder or file; relative paths are looked up in `models_dir`.
        package: an installed Python package that holds `file`.
        hub_id: `owner/name` on the Hugging Face hub, with `revision`, and `file` (a glob) for a GGUF.
    """

    name: str = MISSING
    path: str | None = None
    package: str | None = None
    file: str | None = None
    hub_id: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class BackendConfig:
    """Settings that every format shares.

    Attributes:
        format: "auto" recognises it from the files.
        n_ctx: context length a request may use, in tokens; null takes the model's own, at most 4096.
        max_slots: sequences that run at the same time.
        max_queue: requests that may wait before new ones are refused.
        prefill_chunk: most prompt tokens in one step while other requests are decoding.
        n_batch: most tokens in one step.
        prefix_reuse: reuse the KV cache of a common prompt prefix.
        n_threads: null takes all cores this process may use.
        device: "auto", "cpu" or "cuda".
        fallback: when a load does not fit, try fewer GPU layers, the CPU, a shorter context, and say so.
        load_timeout_s: give up on a load after so many seconds.
    """

    format: str = "auto"
    n_ctx: int | None = None
    max_slots: int = 16
    max_queue: int = 512
    prefill_chunk: int = 128
    n_batch: int = 512
    prefix_reuse: bool = True
    n_threads: int | None = None
    device: str = "auto"
    fallback: bool = True
    load_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for name, low in (("max_slots", 1), ("max_queue", 0), ("prefill_chunk", 1), ("n_batch", 1)):
            _at_least(f"backend.{name}", getattr(self, name), low)
        for name in ("n_ctx", "n_threads"):
            value = getattr(self, name)
            if value is not None:
                _at_least(f"backend.{name}", value, 1)
        _one_of("backend.device", self.device, ("auto", "cpu", "cuda"))


@dataclass(frozen=True)
class GgufBackend(BackendConfig):
    """llama.cpp.

    Attributes:
        n_gpu_layers: layers on the GPU where there is one; -1 is all.
        kv_type: of the KV cache, "f16", "f32" or "q8_0".
    """

    format: str = "gguf"
    n_gpu_layers: int = -1
    n_ubatch: int = 512
    flash_attn: bool = True
    kv_type: str = "f16"
    use_mmap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("backend.kv_type", self.kv_type, ("f16", "f32", "q8_0"))


@dataclass(frozen=True)
class TransformersBackend(BackendConfig):
    """An unquantized Hugging Face checkpoint.

    Attributes:
        dtype: "auto" is float16 on a GPU and the fastest correct one on a CPU.
        device_map: handed to `from_pretrained` on a GPU.
        trust_remote_code: run Python code that comes with the model. Leave it off.
    """

    format: str = "transformers"
    dtype: str = "auto"
    device_map: str = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("backend.dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))


@dataclass(frozen=True)
class BnbBackend(TransformersBackend):
    """bitsandbytes. `quantize_on_load` ("4bit", "8bit") quantizes a checkpoint that is not yet quantized."""

    format: str = "bnb"
    quantize_on_load: str | None = None


@dataclass(frozen=True)
class GptqBackend(TransformersBackend):
    """GPTQ checkpoints, through GPT-QModel."""

    format: str = "gptq"


@dataclass(frozen=True)
class OpenAIBackend(BackendConfig):
    """Any OpenAI-compatible endpoint. The key is read from the environment variable `api_key_env`."""

    format: str = "openai"
    base_url: str = "http://127.0.0.1:8080/v1"
    api_key_env: str = "OPENAI_API_KEY"
    remote_model: str | None = None
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Prompt:
    """One entry of a prompt set: a single user turn (`prompt`) or a scripted conversation (`turns`, user turns only).

    `reference` is an answer a person would accept, optional.
    """

    id: str = MISSING
    prompt: str | None = None
    turns: list[str] = field(default_factory=list)
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.id != MISSING and (self.prompt is None) == (not self.turns):
            raise UserInputError(f"prompt '{self.id}' must have either prompt or turns")


@dataclass(frozen=True)
class PromptsConfig:
    """A prompt set: at least one entry, each with an id of its own."""

    name: str = MISSING
    system: str | None = None
    entries: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.name == MISSING:
            return
        if not self.entries:
            raise UserInputError(
                f"the prompt set '{self.name}' is empty",
                hint="add entries: [{id: ..., prompt: ...}], or choose another set with prompts=",
            )
        ids = [entry.id for entry in self.entries]
        for entry_id in ids:
            if ids.count(entry_id) > 1:
                raise UserInputError(f"the prompt set '{self.name}' has the id '{entry_id}' more than once")


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults for the requests of an experiment; see `types.SamplingParams`."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = 0
    stop: list[str] = field(default_factory=list)
    ignore_eos: bool = False

    @property
    def params(self) -> SamplingParams:
        """The same, as requests carry it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return SamplingParams(**{**values, "stop": tuple(self.stop)})


@dataclass(frozen=True)
class ModeConfig:
    """Base of the modes' own settings."""

    name: str = MISSING

    def check(self, run: RunConfig) -> None:
        """Refuse what does not go together with the other groups of the configuration.

        Raises:
            UserInputError: it does not.
        """


@dataclass(frozen=True)
class ObjectivesConfig:
    """Service levels of goodput, in seconds: a request is good when it meets all that are given."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True)
class RampConfig:
    """Rates to try, one after the other, until the engine no longer keeps up.

    Attributes:
        start: the first rate, in requests per second; null leaves the ramp out.
        factor: from one rate to the next.
        max_rate: the highest rate to try.
        step_s: length of a step, in seconds; low rates take longer, so that enough requests arrive to judge by.
        refine: rates to try between the last that was sustained and the first that was not.
    """

    start: float | None = None
    factor: float = 1.5
    max_rate: float = 64.0
    step_s: float = 10.0
    refine: int = 2


@dataclass(frozen=True)
class SyntheticConfig:
    """Requests of given lengths in place of the prompt set, in tokens; `_std` draws them from a normal distribution.

    Attributes:
        prompt_tokens: as the model counts them, exactly; null uses the prompt set.
        output_tokens: every answer has as many, past the end of sequence if need be; null takes
            `mode.sampling.max_tokens`.
    """

    prompt_tokens: int | None = None
    prompt_tokens_std: float = 0.0
    output_tokens: int | None = None
    output_tokens_std: float = 0.0


@dataclass(frozen=True)
class BenchmarkMode(ModeConfig):
    """Loads over the prompt set: closed loops, then open loops, then a ramp.

    Attributes:
        concurrency: one closed loop for each number of concurrent requests.
        rate: one open loop for each number of requests per second.
        arrival: of the open loops: "poisson", "constant" (evenly spaced) or "burst".
        burst: requests that arrive at once in a burst.
        ramp: look for the highest rate that is sustained.
        requests: requests in each load; null is the larger of 16 and twice the concurrency or 10 seconds' worth.
        duration_s: a load lasts so many seconds instead, and the requests under way are then waited for.
        repeats: times each load is run, for confidence intervals.
        interleave: the models take turns, one repeat and one load of the weights each, so that a drift of the machine's
            speed falls on all of them alike.
        warmup: requests before the measurement, not counted.
        seed: of arrivals and synthetic requests.
        heuristic: report the heuristic quality of the answers.
        tasks: measure the accuracy on these after the loads: names of lm-evaluation-harness's tasks, or YAML files.
        tasks_limit: documents of each task; null takes all.
        objectives: report goodput under these.
    """

    name: str = "benchmark"
    concurrency: list[int] = field(default_factory=lambda: [1, 4, 8])
    rate: list[float] = field(default_factory=list)
    arrival: str = "poisson"
    burst: int = 8
    ramp: RampConfig = field(default_factory=RampConfig)
    requests: int | None = None
    duration_s: float | None = None
    repeats: int = 1
    interleave: bool = False
    warmup: int = 2
    seed: int = 0
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    heuristic: bool = True
    tasks: list[str] = field(default_factory=list)
    tasks_limit: int | None = None
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)

    def __post_init__(self) -> None:
        _one_of("mode.arrival", self.arrival, ("poisson", "constant", "burst"))
        if self.tasks_limit is not None:
            _at_least("mode.tasks_limit", self.tasks_limit, 1)

    def check(self, run: RunConfig) -> None:
        """Refuse a verdict over figures that this run does not measure."""
        if run.runs:
            return
        fidelity = (run.reference and run.fidelity.enabled, "name the unquantized model: reference=<model>")
        sources = {
            **dict.fromkeys(("max_kld", "min_top1", "max_perplexity"), fidelity),
            "min_heuristic": (self.heuristic, "set mode.heuristic=true"),
            **dict.fromkeys(
                ("min_tokens_per_s", "max_ttft_s", "min_success_rate"),
                (self.concurrency, "give mode.concurrency, e.g. [1]"),
            ),
        }
        for name in run.verdict.bounds:
            measured, hint = sources.get(name, (True, ""))
            if not measured:
                raise UserInputError(f"verdict.{name} bounds what this run does not measure", hint=hint)
        users = run.verdict.concurrency
        if users is not None and users not in self.concurrency:
            raise UserInputError(
                f"verdict.concurrency={users} is not among mode.concurrency={list(self.concurrency)}",
                hint="take the speed from a load that is run",
            )


@dataclass(frozen=True)
class CompareMode(BenchmarkMode):
    """The loads of a benchmark for each of `models`, their fidelity to `reference`, and a verdict.

    With `runs` nothing is run: the verdict is over the results of runs that are finished.

    Attributes:
        allow_different: compare finished runs also where their prompts or sampling differ, and say so.
    """

    name: str = "compare"
    allow_different: bool = False

    def check(self, run: RunConfig) -> None:
        """Refuse a comparison of nothing, or of a model with itself."""
        super().check(run)
        if run.models and run.runs:
            raise UserInputError(
                "models and runs are both given",
                hint="models=[a,b] measures models, runs=[x,y] compares what has been measured",
            )
        for key, names, least in (("models", run.models, 1), ("runs", run.runs, 2)):
            if len(set(names)) < len(names):
                raise UserInputError(f"{key}=[{','.join(names)}] names one twice", hint="give each once")
            if names and len(names) < least:
                raise UserInputError(f"{key}=[{names[0]}] is not enough", hint=f"give at least {least}")
        if not run.models and not run.runs:
            raise UserInputError(
                "there is nothing to compare",
                hint="name models, models=[a,b,c], or finished runs, runs=[outputs/...,outputs/...]",
            )


@dataclass(frozen=True)
class BatchMode(ModeConfig):
    """Answer every line of a file.

    Attributes:
        input: JSONL, CSV, text with one prompt a line, or OpenAI's batch format; which, is seen from its content.
        output: JSONL with an answer a line, OpenAI's format for OpenAI's; null is `<input>.answers.jsonl`. Lines that
            it answers already are not asked again.
        prompt_field: name of the prompt in JSONL and CSV.
        system: system prompt for lines that bring none of their own.
        concurrency: lines under way at the same time.
        retries: times a line is tried again after an error that may pass: a busy engine, a broken connection.
        retry_wait_s: wait before the first of them; each next one waits twice as long.
        sampling: for what a line does not say itself.
    """

    name: str = "batch"
    input: str | None = None
    output: str | None = None
    prompt_field: str = "prompt"
    system: str | None = None
    concurrency: int = 8
    retries: int = 3
    retry_wait_s: float = 1.0
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=512))

    def __post_init__(self) -> None:
        for name, low in (("concurrency", 1), ("retries", 0)):
            _at_least(f"mode.{name}", getattr(self, name), low)


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
        overwrite: replace a folder that is there already; otherwise it is kept and checked.
    """

    name: str = "quantize"
    method: str = "bnb"
    bits: int = 4
    type: str = "Q4_0"
    double_quant: bool = False
    group_size: int = 64
    calibration: str | None = None
    calibration_samples: int = 128
    calibration_tokens: int = 512
    output: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        _one_of("mode.method", self.method, ("bnb", "gptq", "gguf", "bf16"))


@dataclass(frozen=True)
class ModelsMode(ModeConfig):
    """List the models there are. `format`: "table" or "json"."""

    name: str = "models"
    format: str = "table"

    def __post_init__(self) -> None:
        _one_of("mode.format", self.format, ("table", "json"))


@dataclass(frozen=True)
class HistoryMode(ModeConfig):
    """Past runs from MLflow, one line for each model of a run.

    Attributes:
        show: "all" runs, the "latest" of each model and mode, the "best" of each by `metric`, or the "trend": each run
            beside the comparable one before it.
        model, format, mode: only runs of these; `*` stands for any characters ("qwen_*").
        since: only runs not older than this: "12h", "7d", "4w", or a date like "2026-01-31".
        metric: an MLflow name, e.g. "c8/ttft_s.p50", for best and trend; null takes the output tokens per second of the
            lightest load.
        regressions: only runs that are worse than those before them.
        limit: most lines to show, the newest.
        output: "table" or "json".
    """

    name: str = "history"
    show: str = "all"
    model: str | None = None
    format: str | None = None
    mode: str | None = None
    since: str | None = None
    metric: str | None = None
    regressions: bool = False
    limit: int = 30
    output: str = "table"

    def __post_init__(self) -> None:
        _one_of("mode.show", self.show, ("all", "latest", "best", "trend"))
        _one_of("mode.output", self.output, ("table", "json"))
        _at_least("mode.limit", self.limit, 1)


@dataclass(frozen=True)
class ChatMode(ModeConfig):
    """Talk to a model. With `message` it answers that and ends, with `script` it plays the entry of the prompt set that
    has this id; without, it reads from the terminal."""

    name: str = "chat"
    message: str | None = None
    script: str | None = None
    system: str | None = None
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(max_tokens=512, temperature=0.7, top_p=0.95, seed=None)
    )


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
        _one_of("mode.format", self.format, ("table", "json"))


@dataclass(frozen=True)
class StopMode(ModeConfig):
    """Stop the server on `server.port`.

    Attributes:
        all: stop every server of this user instead.
        force: end it at once, whatever it is doing.
        timeout_s: wait so long for it to end.
        format: "text" or "json".
    """

    name: str = "stop"
    all: bool = False
    force: bool = False
    timeout_s: float = 60.0
    format: str = "text"

    def __post_init__(self) -> None:
        _one_of("mode.format", self.format, ("text", "json"))


@dataclass(frozen=True)
class KeysMode(ModeConfig):
    """Make, remove or list the API keys in `server.keys_file`.

    Attributes:
        add: make a key of this name, and print it: it is shown this once.
        role: of the new key, "use" or "admin"; null is both.
        remove: take the key of this name away.
    """

    name: str = "keys"
    add: str | None = None
    role: str | None = None
    remove: str | None = None

    def __post_init__(self) -> None:
        if self.role is not None:
            _one_of("mode.role", self.role, ("use", "admin"))
        if self.add is not None and self.remove is not None:
            raise UserInputError("mode.add and mode.remove cannot go together", hint="run it twice")


@dataclass(frozen=True)
class LimitsConfig:
    """What one client may ask of the server, and how long it may take over it. A client is a key, or an address.

    Attributes:
        requests_per_minute: refilled steadily; null is no limit.
        burst: requests that may come at once after a quiet time; null is a tenth of a minute's.
        concurrent: requests of a client that run or wait at the same time; null is no limit.
        request_timeout_s: the longest a request may take, its streamed answer included; null is no limit.
        head_bytes: request line and headers.
        head_timeout_s: from the first byte (or the connection) to the end of the headers.
        body_timeout_s: from the end of the headers to the end of the body.
        write_timeout_s: how long a client may leave a full buffer unread.
        connections: most connections at the same time.
    """

    requests_per_minute: float | None = None
    burst: int | None = None
    concurrent: int | None = None
    request_timeout_s: float | None = 600.0
    head_bytes: int = 65536
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    write_timeout_s: float = 30.0
    connections: int = 1024

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not value > 0:
                raise UserInputError(
                    f"server.limits.{f.name}={value:g} is too small", hint="it must be more than 0"
                )


@dataclass(frozen=True)
class ServerConfig:
    """The REST server.

    Attributes:
        autoload: load a model when a request names it.
        max_models: most models loaded at the same time.
        max_memory_mb: most memory of all loaded models together, in MB of 10^6 bytes.
        idle_timeout_s: unload a model that had no request for so long; null keeps it.
        pin: models that are never unloaded to make room for others.
        background: return once the server is ready and leave it running.
        max_body_mb: larger request bodies are refused.
        max_sessions: native conversations kept; the one longest unused goes first.
        session_timeout_s: forget a conversation that was not used for so long.
        session_messages: most messages of a conversation, answers included.
        keys_file: hashed API keys, made by mode=keys; null is api-keys.json where that exists.
        allow_without_keys: serve the network, not this machine alone, although there are no keys.
        allowed_hosts: more names under which the server is reached, `name` or `name:port`; "*" is any.
        cors_origins: web pages that may use the server, e.g. "https://app.example.com"; "*" is any.
        certfile, keyfile: PEM files; with them the server speaks HTTPS.
        drain_timeout_s: how long requests may go on after the signal to stop.
        access_log: "plain", "json" or "off"; access.log in the run's folder.
        access_log_mb: start a new file at this size, and keep five old ones.
        tracking_interval_s: send a summary to MLflow so often; one more goes at the end.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    autoload: bool = True
    max_models: int = 5
    max_memory_mb: float = 8192.0
    idle_timeout_s: float | None = None
    pin: list[str] = field(default_factory=list)
    background: bool = False
    max_body_mb: float = 10.0
    max_sessions: int = 256
    session_timeout_s: float = 3600.0
    session_messages: int = 200
    keys_file: str | None = None
    allow_without_keys: bool = False
    allowed_hosts: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    certfile: str | None = None
    keyfile: str | None = None
    drain_timeout_s: float = 30.0
    access_log: str = "plain"
    access_log_mb: float = 10.0
    tracking_interval_s: float = 600.0
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        _one_of("server.access_log", self.access_log, ("plain", "json", "off"))
        if not 0 <= self.port <= 65535:
            raise UserInputError(
                f"server.port={self.port} is not a port", hint="choose 1 to 65535, or 0 for any free one"
            )
        for name in ("max_models", "max_sessions", "session_messages"):
            _at_least(f"server.{name}", getattr(self, name), 1)
        for name in (
            "max_memory_mb",
            "idle_timeout_s",
            "max_body_mb",
            "session_timeout_s",
            "access_log_mb",
            "tracking_interval_s",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserInputError(f"server.{name}={value:g} is too small", hint="it must be more than 0")


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow. `enabled: false` leaves only the run's folder."""

    enabled: bool = True
    uri: str = "sqlite:///mlruns/mlflow.db"
    artifacts: str = "mlruns/artifacts"
    experiment: str = "lqmf"


@dataclass(frozen=True)
class WeightsConfig:
    """What counts how much in the ranking of `quality.verdict`; only the ratios matter, 0 leaves one out."""

    speed: float = 1.0
    memory: float = 1.0
    fidelity: float = 1.0

    def __post_init__(self) -> None:
        weights = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, weight in weights.items():
            _within(f"verdict.weights.{name}", weight, 0)
        if not any(weights.values()):
            raise UserInputError(
                "all verdict.weights are 0", hint="give at least one of speed, memory and fidelity a weight"
            )


@dataclass(frozen=True)
class VerdictConfig:
    """Which models qualify, and how those that do are ranked. A bound that is null does not bind.

    Attributes:
        max_memory_mb: resident memory of the worker, and what it holds on GPUs.
        max_size_mb: of the weights on disk.
        max_load_time_s: until the model answers.
        min_tokens_per_s: output tokens per second, at `concurrency`.
        max_ttft_s: median time to the first token, at `concurrency`.
        min_success_rate: share of requests answered, at `concurrency`.
        max_kld: mean KL divergence from the reference.
        min_top1: share of positions with the reference's most likely token.
        max_perplexity: on the evaluation text.
        min_heuristic: heuristic quality of the answers.
        concurrency: of the load that speed is taken from; null is the lowest one.
    """

    max_memory_mb: float | None = None
    max_size_mb: float | None = None
    max_load_time_s: float | None = None
    min_tokens_per_s: float | None = None
    max_ttft_s: float | None = None
    min_success_rate: float | None = None
    max_kld: float | None = None
    min_top1: float | None = None
    max_perplexity: float | None = None
    min_heuristic: float | None = None
    concurrency: int | None = None
    weights: WeightsConfig = field(default_factory=WeightsConfig)

    def __post_init__(self) -> None:
        for name, bound in self.bounds.items():
            share = name in ("min_success_rate", "min_top1", "min_heuristic")
            _within(f"verdict.{name}", bound, 1 if name == "max_perplexity" else 0, 1 if share else None)

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are given, e.g. {"max_kld": 0.1}."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name.startswith(("min_", "max_"))}
        return {name: bound for name, bound in given.items() if bound is not None}


@dataclass(frozen=True)
class FidelityConfig:
    """How models are held against the `reference`.

    Attributes:
        enabled: measure it where there is a reference.
        text: a UTF-8 file to measure on; null is the text that ships.
        dataset: a hub data set instead, with its `dataset_config`, `dataset_split` and the column that holds the text.
        max_tokens: at most so many tokens of the text, in windows of 512; half of them are scored.
        dtype: the reference runs in, where its own settings say "auto".
        noise_floor: run the reference in its own dtype too, to tell what arithmetic alone does.
        divergence_tokens: length of the greedy answers that are compared; 0 leaves them out.
        cache_dir: where the reference's distributions are kept (1.2 GB for a vocabulary of 50,000 and 24,576 tokens);
            null is `.fidelity` in `output_dir`.
    """

    enabled: bool = True
    text: str | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "test"
    dataset_column: str = "text"
    max_tokens: int = 12288
    dtype: str = "float32"
    noise_floor: bool = True
    divergence_tokens: int = 64
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        _at_least("fidelity.max_tokens", self.max_tokens, 512)
        _at_least("fidelity.divergence_tokens", self.divergence_tokens, 0)
        _one_of("fidelity.dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))
        if self.text is not None and self.dataset is not None:
            raise UserInputError("fidelity.text and fidelity.dataset are both given", hint="give one of them")


@dataclass(frozen=True)
class RunConfig:
    """One run: mode(model in a format, prompts). `reference` names the model that fidelity is measured against."""

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    reference: str | None = None
    models_dir: str = "quantized-models"
    output_dir: str = "outputs"


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UserInputError(f"{name}={value} is not valid", hint=f"choose one of: {', '.join(valid)}")


def _within(name: str, value: float, low: float, high: float | None = None) -> None:
    if not low <= value <= (float("inf") if high is None else high):
        wanted = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise UserInputError(f"{name}={value:g} can never be met", hint=f"it must be {wanted}")


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise UserInputError(f"{name}={value} is too small", hint=f"it must be at least {low}")

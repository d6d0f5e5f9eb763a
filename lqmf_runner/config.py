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


@dataclass(frozen=True)
class ObjectivesConfig:
    """Service levels of goodput, in seconds: a request is good when it meets all that are given."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True)
class BenchmarkMode(ModeConfig):
    """Closed-loop loads over the prompt set.

    Attributes:
        concurrency: one load for each number of concurrent requests.
        requests: requests in each load; null is the larger of 16 and twice the concurrency.
        warmup: requests before the measurement, not counted.
        heuristic: report the heuristic quality of the answers.
        objectives: report goodput under these.
    """

    name: str = "benchmark"
    concurrency: list[int] = field(default_factory=lambda: [1, 4, 8])
    requests: int | None = None
    warmup: int = 2
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    heuristic: bool = True
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)


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
class ChatMode(ModeConfig):
    """Talk to a model. With `message` it answers that and ends; without, it reads from the terminal."""

    name: str = "chat"
    message: str | None = None
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
class RunConfig:
    """One run: mode(model in a format, prompts)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    models: list[str] = field(default_factory=list)
    models_dir: str = "quantized-models"
    output_dir: str = "outputs"


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UserInputError(f"{name}={value} is not valid", hint=f"choose one of: {', '.join(valid)}")


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise UserInputError(f"{name}={value} is too small", hint=f"it must be at least {low}")

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
    """Talk to a model. With `message` it answers that and ends; without, it reads from the terminal."""

    name: str = "chat"
    message: str | None = None
    system: str | None = None
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(max_tokens=512, temperature=0.7, top_p=0.95, seed=None)
    )


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
    models: list[str] = field(default_factory=list)
    models_dir: str = "quantized-models"
    output_dir: str = "outputs"


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UserInputError(f"{name}={value} is not valid", hint=f"choose one of: {', '.join(valid)}")


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise UserInputError(f"{name}={value} is too small", hint=f"it must be at least {low}")

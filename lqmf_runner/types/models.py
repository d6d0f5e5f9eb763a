"""A model's properties, its placement and its resource use."""

from __future__ import annotations

from typing import Any

import msgspec


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded model is. Sizes in MB are 10^6 bytes.

    Attributes:
        weight_bytes: bytes of weights read for one decoded token (embedding table only where it is also the head).
        bits_per_weight: 8 × bytes of all stored weights / parameters.
        tools: whether the chat template knows tools.
        thinks: whether it knows thoughts; False where it is not known, as of an endpoint.
        embeddings: whether the model gives embeddings of texts.
        batch_invariant: whether an answer is the same whatever else the engine computes.
        bos: the token that its tokenizer puts before every text; None where it puts none.
        draft_model: name of the draft model beside it, and what it is; empty without one.
        notes: what the load had to do differently from what was asked (a fallback), one sentence each.
    """

    name: str
    format: str
    method: str  # the usual name: "Q4_1", "NF4", "GPTQ 4-bit g64", "bfloat16"
    architecture: str
    bits: float
    bits_per_weight: float
    parameters: int
    size_mb: float
    weight_bytes: int
    n_ctx: int
    n_vocab: int
    max_slots: int
    device: str
    dtype: str
    chat_template: bool
    tools: bool = False
    thinks: bool = False
    embeddings: bool = False
    batch_invariant: bool = False
    bos: int | None = None
    draft_model: str = ""
    load_time_s: float = 0.0
    version: str = ""
    notes: tuple[str, ...] = ()


class EngineStats(msgspec.Struct, kw_only=True):
    """Counters of a worker since its load; seconds, tokens and requests.

    `prefill_*` count the steps that held prompt tokens only, `decode_*` those that held no prompt tokens, `mixed_*` the
    rest. `decode_steps` is the number of pure decode steps. Refused drafts are in no `*_tokens` but `drafted_tokens`.
    `draft_model_*_tokens` are those of the draft model among the drafts, whose own steps count in `decode_s`.
    `draft_model_failures` are drafts that it could not make; their requests went on without.
    """

    running: int = 0
    waiting: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft_model_drafted_tokens: int = 0
    draft_model_accepted_tokens: int = 0
    draft_model_failures: int = 0
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_tokens: int = 0
    decode_steps: int = 0
    decode_s: float = 0.0
    mixed_prefill_tokens: int = 0
    mixed_decode_tokens: int = 0
    mixed_steps: int = 0
    mixed_s: float = 0.0


class PromptCacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """The prompts that a worker keeps in main memory after they have left their slot. MB are 10^6 bytes.

    Attributes:
        limit_mb: most that they may take; 0 where none are kept.
        mb: what they take now, which is part of the worker's resident memory.
        prompts: how many there are.
        tokens: of all of them.
        hits: requests since the load that began from one of them.
        restored_tokens: tokens of those requests that came from there.
    """

    limit_mb: float = 0.0
    mb: float = 0.0
    prompts: int = 0
    tokens: int = 0
    hits: int = 0
    restored_tokens: int = 0


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one worker process, in MB of 10^6 bytes; GPU figures are 0 where there is none."""

    rss_mb: float = 0.0
    peak_rss_mb: float = 0.0
    gpu_mb: float = 0.0
    peak_gpu_mb: float = 0.0


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A Ray cluster and how its workers reach this process; see `config.placement.RayConfig`."""

    address: str | None = None
    token_file: str | None = None
    listen_host: str | None = None
    listen_port: int = 0
    tls: bool = False
    start_timeout_s: float = 60.0
    cache_mb: float = 100_000.0


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's workers run and what each may use; see `config.placement.PlacementConfig`.

    `cluster` is None for workers on this machine.
    """

    kind: str = "local"
    replicas: int = 1
    min_replicas: int | None = None
    max_replicas: int | None = None
    num_cpus: float | None = None
    num_gpus: float = 0.0
    memory_mb: float | None = None
    labels: tuple[str, ...] = ()
    strategy: str = "spread"
    files: str = "auto"
    cluster: Cluster | None = None

    @property
    def most_replicas(self) -> int:
        """The maximum number of workers, unless a request asks for more."""
        return max(self.replicas, self.max_replicas or 0)


class ReplicaState(msgspec.Struct, frozen=True, kw_only=True):
    """One of several engines that hold the same model.

    Attributes:
        number: from 0; a replica that is started again keeps it.
        state: "starting", "ready", "waiting" (for the next try to start it) or "draining" (it ends when it is idle).
        place: where it runs: "this machine", a node, or an endpoint's host and port.
        running: requests that it has.
        work_tokens: prompt and output tokens that it still has to compute for them, estimated.
        losses: times that it was lost, in a row without a stable minute.
        slow: its tokens take much longer than those of the others.
        memory_mb: when it was last measured, in MB of 10^6 bytes.
    """

    number: int
    state: str
    place: str
    running: int
    work_tokens: int
    requests: int
    output_tokens: int
    losses: int
    slow: bool
    memory_mb: float


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model that has been located: everything a worker needs to load it.

    Attributes:
        path: a folder or a GGUF file that exists on this machine. Empty for a remote endpoint.
        format: the name of one of `formats.FORMATS`.
        options: the backend's settings, as plain values (the fields of its config dataclass).
        placement: where its workers run.
    """

    name: str
    format: str
    path: str
    version: str = ""
    options: dict[str, Any] = {}
    placement: Placement = Placement()

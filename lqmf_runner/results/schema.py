"""What a run leaves: the typed form of `results.json` (schema_version 1) and of lines of its other files.

A figure that is not known is None (`null` in JSON), never NaN. Seconds, tokens, and MB of 10^6 bytes throughout;
shares and rates of success are between 0 and 1.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..types import MemoryUse
from .lineage import Origin
from .quality import HeuristicScore, Quality
from .verdict import Verdict

SCHEMA_VERSION = 1
ENDED_BY_USER = "interrupted"
"""The `error` of a model and the `reason` of a run that the user ended early."""


class Summary(msgspec.Struct, frozen=True):
    """Distribution of one quantity. Percentiles interpolate linearly; `std` is that of the population."""

    mean: float | None = None
    std: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests were sent. `kind` "closed": `concurrency` users, each sends its next request when it has its answer.

    The open-loop kinds "constant", "poisson", "burst" (of `burst` requests) and "ramp" (a step of it, evenly spaced)
    have a `rate`: arrivals per second. "served" is what the users of a server sent.
    """

    kind: str
    concurrency: int | None = None
    rate: float | None = None
    burst: int | None = None

    @property
    def key(self) -> str:
        """Short name of the load, as in MLflow's metrics and in `requests.jsonl`: "c8", "poisson2"."""
        if self.concurrency is not None:
            return f"c{self.concurrency}"
        return f"{self.kind}{self.rate:g}" if self.rate is not None else self.kind


class Estimate(msgspec.Struct, frozen=True):
    """Mean of a metric over `n` repeats of a load; its 95 % confidence interval is `mean` ± `ci95` (Student's t)."""

    mean: float
    ci95: float
    n: int


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured under one load, warm-up excluded.

    Attributes:
        shape: how requests were sent.
        requests: requests that ended, well or badly. Those an interrupt cut off are not among them.
        succeeded: requests with a whole answer. Everything below counts these alone.
        success_rate: succeeded / requests.
        duration_s: from the first request sent to the last one ended.
        ttft_s: request sent → first token received, be it of the thoughts or of the content. In open loops this and
            `e2e_s` count from when the request was due, so that a request which had to wait for the load generator is
            not flattered.
        first_content_s: request sent → first token of the content. It differs from `ttft_s` where an endpoint sends
            thoughts first.
        itl_s: gaps between consecutive tokens, thoughts included, pooled over requests. A chunk of k tokens that
            arrives t seconds after the one before counts as k gaps of t/k.
        tpot_s: (e2e - ttft) / (output tokens - 1), for each request with more than one output token.
        e2e_s: request sent → last chunk.
        output_tokens_per_s, total_tokens_per_s, requests_per_s: output tokens, prompt + output tokens, and requests
            over `duration_s`.
        prefill_tokens_per_s, decode_tokens_per_s: the engine's own clocks, from its steps that only prefilled or only
            decoded; where it had none, from the mixed steps, their time apportioned by tokens.
        bandwidth_utilisation: bytes of weights read by decode steps / decode time / measured memory bandwidth.
        goodput_rps: requests per second that met every objective; null without objectives.
        prompt_tokens, cached_tokens, output_tokens: totals; cached ones are prompt tokens whose prefix was reused.
        drafted_tokens, accepted_tokens: next tokens that speculation proposed, and those that the model chose too.
        draft_model_drafted_tokens, draft_model_accepted_tokens: those of them that a draft model proposed.
        cancelled: requests whose client left before the end; they are not among `requests`.
        finish_reasons: why answers ended, and how many did so; of what was served only.
        partial: the load was cut short.
        repeats: of a load that was repeated, the headline metrics as mean and interval over the repeats. All else is
            pooled over them.
    """

    shape: Shape
    requests: int
    succeeded: int
    success_rate: float | None
    duration_s: float
    ttft_s: Summary
    itl_s: Summary
    tpot_s: Summary
    e2e_s: Summary
    first_content_s: Summary = Summary()
    output_tokens_per_s: float | None = None
    total_tokens_per_s: float | None = None
    requests_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    bandwidth_utilisation: float | None = None
    goodput_rps: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft_model_drafted_tokens: int = 0
    draft_model_accepted_tokens: int = 0
    cancelled: int = 0
    finish_reasons: dict[str, int] = {}
    partial: bool = False
    repeats: dict[str, Estimate] = {}


class RampResult(msgspec.Struct, frozen=True):
    """Outcome of a ramp, in requests per second; docs/metrics.md says when a rate counts as sustained.

    `sustained_rps` is the highest rate that was sustained, `saturated_rps` the lowest that was not. The first is null
    where even the lowest rate was too much, the second where the highest was not enough.
    """

    sustained_rps: float | None = None
    saturated_rps: float | None = None


class ModelResult(msgspec.Struct, kw_only=True):
    """One model of a run. What is not known of a model that failed to load is null.

    Attributes:
        name: name of its configuration; `format` and `method` ("Q4_1", "NF4") say what it is.
        version: digest of the weights.
        path: where they lay on this machine; null of an endpoint.
        origins: what it was made from, the nearest first; empty where nobody says.
        load_time_s: from the request to load to a client that answers.
        batch_invariant: whether the engine computed answers that do not depend on other requests.
        draft_model: the draft model that it was measured with, and what that is; null without one.
        memory: of the worker process alone, after the last load.
        ramp: the rate at which it saturates; null unless asked for.
        other_cores: cores that other programs kept busy during the loads, on average; null of an endpoint.
        notes: what the load did differently from what was asked.
        error: why this model's run ended early; null when it did not.
    """

    name: str
    format: str | None = None
    method: str | None = None
    bits: float | None = None
    bits_per_weight: float | None = None
    version: str | None = None
    path: str | None = None
    origins: list[Origin] = []
    size_mb: float | None = None
    parameters: int | None = None
    device: str | None = None
    batch_invariant: bool | None = None
    draft_model: str | None = None
    load_time_s: float | None = None
    memory: MemoryUse | None = None
    loads: list[LoadResult] = []
    ramp: RampResult | None = None
    other_cores: float | None = None
    quality: Quality = Quality()
    notes: list[str] = []
    error: str | None = None


class RunRecord(msgspec.Struct, kw_only=True):
    """The run itself. Times are ISO 8601 with offset.

    `status` is "complete" or "partial", with the `reason`. `mlflow_run_id` is null until the run is in MLflow.
    `sweep` names the sweep that the run is one job of: its folder, and a mark that no other has. `compares` are the ids
    of the finished runs that this one lays side by side; it has then measured nothing itself.
    """

    id: str
    mode: str
    name: str
    started_at: str
    command: str
    finished_at: str | None = None
    git_commit: str | None = None
    mlflow_run_id: str | None = None
    sweep: str | None = None
    compares: list[str] = []
    status: str = "partial"
    reason: str | None = None


class Gpu(msgspec.Struct, frozen=True):
    """One GPU, as NVML names it."""

    name: str
    memory_mb: float
    driver: str | None = None


class SystemInfo(msgspec.Struct, kw_only=True):
    """The machine. `cores` are those this process may use; `memory_bandwidth_gb_s` is measured, in 10^9 bytes/s."""

    cpu: str
    cores: int
    ram_mb: float
    os: str
    python: str
    gpus: list[Gpu] = []
    packages: dict[str, str] = {}
    memory_bandwidth_gb_s: float | None = None


class Results(msgspec.Struct, kw_only=True):
    """`results.json`."""

    run: RunRecord
    system: SystemInfo
    models: list[ModelResult] = []
    verdict: Verdict | None = None
    schema_version: int = SCHEMA_VERSION


class RequestRecord(msgspec.Struct, kw_only=True):
    """One line of `requests.jsonl`.

    Attributes:
        load: which load ("c8" is a closed loop of 8 users), `repeat` which time it ran; `user` which of its users.
        turn: 0 for the first request of a conversation.
        prompt: the user's turn.
        text: the answer; of a failed request, what came before the failure.
        reasoning: the thoughts that an endpoint sent apart from the answer.
        error: why it failed; null means success.
        sent_s: when it was sent, from the start of the load.
        due_s: when it should have been sent; only in open loops, where the timings count from then on.
        ttft_s, first_content_s, e2e_s, tpot_s, itl_s: as in `LoadResult`; `itl_s` has one entry for each gap.
        queue_s, prefill_s, decode_s: the engine's own clocks.
    """

    model: str
    load: str
    prompt_id: str
    turn: int
    user: int
    repeat: int = 0
    prompt: str = ""
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    error: str | None = None
    sent_s: float = 0.0
    due_s: float | None = None
    ttft_s: float | None = None
    first_content_s: float | None = None
    e2e_s: float | None = None
    tpot_s: float | None = None
    itl_s: list[float] = []
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft_model_drafted_tokens: int = 0
    draft_model_accepted_tokens: int = 0
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    heuristic: HeuristicScore | None = None


class Judgement(msgspec.Struct, kw_only=True):
    """One line of `judgements.jsonl`: what the judge made of a model's answer to a prompt.

    Attributes:
        score, criteria: 0 to 1.
        preference: probability that it is better than the answer of `against`, `outcomes` ("win", "tie", "loss") when
            it stood first and second; an answer equal to the other is not shown, and has none.
        first_preferred: probability of whichever answer stood first, mean over both orders.
        error: why it could not be judged.
    """

    model: str
    prompt_id: str
    score: float | None = None
    criteria: dict[str, float] = {}
    label_mass: float | None = None
    against: str | None = None
    preference: float | None = None
    outcomes: list[str] = []
    first_preferred: float | None = None
    error: str | None = None


class RequestTrace(msgspec.Struct, kw_only=True):
    """One line of `traces.jsonl`: a request of a server's session that has ended. `tracking` sends it to MLflow.

    Attributes:
        id: that of the access log.
        key: name of its API key.
        began: seconds since the epoch.
        duration_s, first_token_s: after `began`; the latter is 0 where there was no token.
        queue_s, prefill_s, decode_s: engine-side, see `types.Usage`.
        error: kind of the error, empty where it succeeded.
        inputs, outputs: prompts and answers, where they may be kept.
    """

    id: str
    key: str | None
    route: str
    model: str
    streaming: bool
    n: int
    status: int
    error: str
    cancelled: bool
    began: float
    duration_s: float
    first_token_s: float
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None

"""Which model, in which format: the groups `model` and `backend`."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserInputError
from .checks import MISSING, at_least, one_of, positive, within
from .texts import FilePath, Name

HUB_ID_HINT = (
    "give a hub id, <owner>/<name>: lqmf pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M (a model of conf/model/ works "
    "if it has a hub_id)"
)
"""What to type where a model is to come from the hub."""


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and where its weights may be. The first place that exists wins: path, package, hub.

    Attributes:
        path: folder or file; relative paths are looked up in `models_dir`.
        package: an installed Python package that holds `file`.
        hub_id: `owner/name` on the Hugging Face hub, with `revision`, and `file` (a glob) for a GGUF.
        version: number or alias of a version in MLflow's registry, as `model=name@champion` sets it. The files must be
            those of the version, wherever they lie.
        digest: the content version that the files must have; null takes any.
    """

    name: Name = MISSING
    path: FilePath | None = None
    package: Name | None = None
    file: Name | None = None
    hub_id: Name | None = None
    revision: Name | None = None
    version: Name | None = None
    digest: Name | None = None


@dataclass(frozen=True)
class BackendConfig:
    """Settings that every format shares. `formats/` extends them and checks the name of the format.

    Attributes:
        format: "auto" recognises it from the files.
        n_ctx: context length a request may use, in tokens; null takes the model's own, at most 4096.
        max_slots: sequences that run at the same time.
        max_queue: requests that may wait before new ones are refused.
        prefill_chunk: most prompt tokens in one step while other requests are decoding.
        n_batch: most tokens in one step.
        prefix_reuse: reuse the KV cache of a common prompt prefix.
        prompt_cache_mb: main memory for prompts that have left their slot, in MB of 10^6 bytes. null is a tenth of the
            machine's or container's memory, at most 8 GiB, divided among the replicas there, and nothing in a
            benchmark; 0 keeps none.
        batch_invariant: compute so that an answer does not depend on what else the engine computes. The default takes
            the fastest kernels. A format that has no such kernels then computes one request at a time.
        speculation: "ngram" drafts next tokens from what the request holds, where few requests decode; "off" does not.
            The answers are the same, but for rounding. `batch_invariant` turns it off.
        draft_model: a second, smaller model with the same vocabulary, which drafts where n-grams do not: a name, a path
            or a hub id, as of a model. It is loaded beside the model. null: none.
        n_threads: null takes all cores this process may use.
        device: "auto", "cpu" or "cuda".
        fallback: when a load does not fit, try fewer GPU layers, the CPU, a shorter context, and say so.
        load_timeout_s: give up on a load after so many seconds.
        step_timeout_s: end a worker whose step takes longer, since it hangs; null: never. A step computes up to
            `n_batch` tokens of prompts, which may take minutes on a slow machine.
    """

    format: str = "auto"
    n_ctx: int | None = None
    max_slots: int = 16
    max_queue: int = 512
    prefill_chunk: int = 128
    n_batch: int = 512
    prefix_reuse: bool = True
    prompt_cache_mb: float | None = None
    batch_invariant: bool = False
    speculation: str = "ngram"
    draft_model: Name | None = None
    n_threads: int | None = None
    device: str = "auto"
    fallback: bool = True
    load_timeout_s: float = 600.0
    step_timeout_s: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("max_slots", 1), ("max_queue", 0), ("prefill_chunk", 4), ("n_batch", 4)):
            at_least(f"backend.{name}", getattr(self, name), low)
        for name in ("n_ctx", "n_threads"):
            value = getattr(self, name)
            if value is not None:
                at_least(f"backend.{name}", value, 1)
        if self.prompt_cache_mb is not None:
            within("backend.prompt_cache_mb", self.prompt_cache_mb, 0)
        one_of("backend.speculation", self.speculation, ("ngram", "off"))
        if self.draft_model is not None:
            self._check_draft_model(self.draft_model)
        one_of("backend.device", self.device, ("auto", "cpu", "cuda"))
        positive("backend.load_timeout_s", self.load_timeout_s)
        positive("backend.step_timeout_s", self.step_timeout_s)

    def _check_draft_model(self, name: str) -> None:
        """Refuse it where it would be loaded for nothing."""
        if not name:
            raise UserInputError("backend.draft_model is empty", hint="name a model, or leave it at null")
        drafts = (
            ("speculation", self.speculation, "ngram"),
            ("batch_invariant", self.batch_invariant, False),
        )
        for key, value, needed in drafts:
            if value != needed:
                shown, wanted = str(value).lower(), str(needed).lower()
                raise UserInputError(
                    f"backend.draft_model={name} does nothing with backend.{key}={shown}",
                    hint=f"leave out one of them, or set backend.{key}={wanted}",
                )

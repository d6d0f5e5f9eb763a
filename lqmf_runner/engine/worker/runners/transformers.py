"""Hugging Face checkpoints: unquantized, bitsandbytes and GPTQ. The formats differ only in how they load."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
import transformers
from msgspec.structs import replace
from numpy.typing import NDArray
from transformers import AutoConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ....cgroup import available_memory, usable_cores
from ....errors import ModelUnusableError
from ....models import inspect_model
from ....types import ModelInfo, ModelSpec
from .base import ModelRunner, Progress, Span, asked_cache, loaded_info, one_request_at_a_time, plan_cache
from .closeness import ROUNDING, difference
from .cpu.joint import Bnb4bit, Gptq4bit, Joint, Modules, simplify
from .cpu.written_out import WrittenOut, takes
from .gpu.decode_graphs import Capture, CudaCapture, DecodeGraphs, DecodePlan
from .gpu.flash import Varlen, find_kernel
from .slot_attention import NAME, SlotAttention, SlotCache, StepPlan
from .transformers_loading import device_and_dtype, free_for_cache, load_model, placement, weight_bytes
from .transformers_tokenizer import HuggingFaceTokenizer

_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
log = logging.getLogger(__name__)

_JOINTS: dict[str, type[Joint]] = {"bnb": Bnb4bit, "gptq": Gptq4bit}
_SPARE_ROWS = 64  # of logits: how many may lie idle
_runners = itertools.count()


class TransformersRunner(ModelRunner):
    """One Hugging Face causal language model in this process."""

    def __init__(
        self,
        model: Any,
        tokenizer: HuggingFaceTokenizer,
        info: ModelInfo,
        *,
        capture: Capture | None = None,
        flash: Varlen | None = None,
    ) -> None:
        """Take over a loaded model.

        Args:
            capture: records decode steps, which are then replayed; None runs all of them.
            flash: a kernel for the attention of recorded decode steps.
        """
        self._model = model
        self._device = model.device
        self._spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
        self._cache = SlotCache(info.max_slots, spare=capture is not None)
        self._attention = SlotAttention(self._cache)
        self._logits = torch.empty((0, info.n_vocab), dtype=torch.float32)
        name = f"{NAME}_{next(_runners)}"  # a draft model is a second one in this process
        ALL_ATTENTION_FUNCTIONS.register(name, self._attention)
        model.set_attn_implementation(name)
        self.tokenizer = tokenizer
        self.info = info
        self.can_reuse_prefix = self.keeps_prefixes = not info.batch_invariant
        self._written: WrittenOut | None = None
        self._graphs: DecodeGraphs | None = None
        if capture is not None:
            self._graphs = DecodeGraphs(
                self._cache, info.max_slots, self._device, self._decode_step, capture, flash
            )

    @classmethod
    def load(cls, spec: ModelSpec, progress: Progress, reserved: int = 0) -> TransformersRunner:
        options, notes = spec.options, list[str]()
        found = inspect_model(spec.path, trust_remote_code=options.get("trust_remote_code", False))
        if found.problem:
            raise ModelUnusableError(
                f"'{spec.name}' cannot be loaded: {found.problem}", hint="fetch its files again"
            )
        _quiet()
        torch.set_num_threads(options.get("n_threads") or usable_cores())
        torch.set_grad_enabled(False)
        config = AutoConfig.from_pretrained(
            spec.path, trust_remote_code=options.get("trust_remote_code", False)
        )
        text_config = config.get_text_config()
        _check_architecture(spec.name, text_config)
        progress(0.2)
        model, device, dtype = load_model(spec, config, found, notes, reserved)
        progress(0.9)
        if invariant := options.get("batch_invariant", False):
            spec = one_request_at_a_time(spec, notes, "its kernels depend on the batch")
        layers = placement(getattr(model, "hf_device_map", {}))
        if len(layers) > 1:
            notes.append("its layers: " + ", ".join(f"{n} on {place}" for place, n in layers.items()))
        free = free_for_cache(layers, reserved) if device == "cuda" else max(available_memory() - reserved, 0)
        records = device == "cuda" and len(layers) < 2 and options.get("cuda_graphs", True)
        if records:  # their cache has a spare slot
            asked = options.get("max_slots", 16)
            free = int(free * asked / (asked + 1))
        n_ctx, max_slots = plan_cache(
            spec, _trained_context(text_config), _kv_bytes_per_token(text_config, dtype), free, notes
        )
        tokenizer = HuggingFaceTokenizer(spec.path, _eos_ids(model))
        info = loaded_info(
            spec,
            found,
            n_ctx=n_ctx,
            n_vocab=_vocabulary(model.get_output_embeddings()),
            max_slots=max_slots,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            chat_template=bool(tokenizer.chat_templates),
            bos=tokenizer.bos_id if tokenizer.add_bos else None,
            batch_invariant=invariant,
            notes=notes,
        )
        capture = flash = None
        if records:
            capture, flash = CudaCapture(model.device), find_kernel(model.device, dtype)
        runner = cls(model, tokenizer, info, capture=capture, flash=flash)
        runner.take_one_step()
        if device == "cpu":
            runner.write_out_layers(_JOINTS.get(spec.format, Modules))
        return runner

    @classmethod
    def needed_bytes(cls, spec: ModelSpec) -> int:
        """See `ModelRunner.needed_bytes`."""
        trusted = spec.options.get("trust_remote_code", False)
        found = inspect_model(spec.path, trust_remote_code=trusted)
        config = AutoConfig.from_pretrained(spec.path, trust_remote_code=trusted).get_text_config()
        _, dtype = device_and_dtype(spec.options)
        n_ctx, max_slots = asked_cache(spec, _trained_context(config))
        spare = 1  # slot, where decode steps are recorded
        cache = _kv_bytes_per_token(config, dtype) * n_ctx * (max_slots + spare)
        return int(weight_bytes(spec, found, dtype) + cache)

    def take_one_step(self) -> None:
        """Predict one token: kernels refuse a shape or a type only when they run.

        Raises:
            ModelUnusableError: the model cannot, or what it gives are no numbers.
        """
        try:
            logits = self.step([Span(slot=0, tokens=[0], start=0, n_rows=1)])
        except Exception as error:
            raise ModelUnusableError(
                f"'{self.info.name}' loads but cannot take a step: {type(error).__name__}: {error}",
                hint="use another backend.dtype or backend.device, or another quantization of the model",
            ) from error
        if np.isnan(logits).any():
            raise ModelUnusableError(
                f"'{self.info.name}' loads but gives no numbers (NaN) as {self.info.dtype}",
                hint="use another backend.dtype, or fetch the model's files again",
            )
        if self._graphs is not None and self._graphs.failure is not None:
            self.info = replace(self.info, notes=(*self.info.notes, self._graphs.failure))

    @torch.inference_mode()
    def write_out_layers(self, kind: type[Joint]) -> None:
        """Compute from now on with less around the kernels, where that gives the same logits within `ROUNDING`.

        Args:
            kind: of the model's 4-bit layers, `Modules` if it has none.
        """
        if takes(self._model):
            chunk = Span(slot=0, tokens=[0, 1, 2], start=0, n_rows=3)
            expected = torch.from_numpy(self.step([chunk]).copy())
            try:
                self._written = WrittenOut(self._model, self._attention, kind)
                if difference(torch.from_numpy(self.step([chunk])), expected) <= ROUNDING:
                    self._written.adopt()
                    return
            except (
                RuntimeError,
                AttributeError,
            ) as error:  # of a kernel, or of a module that is another than most
                log.warning("the layers of %s are not written out: %s", self.info.name, error)
            self._written = None
        if kind is not Modules:
            simplify(self._model, kind)

    @torch.inference_mode()
    def reserve(self, batch: Sequence[Span]) -> None:
        self._cache.reserve(max(s.slot for s in batch) + 1, max(s.end for s in batch))

    @torch.inference_mode()
    def step(self, batch: Sequence[Span]) -> NDArray[np.float32]:
        self.reserve(batch)
        if self._graphs is not None and (logits := self._graphs.step(batch)) is not None:
            return self._to_numpy(logits)
        plan = self._attention.plan = StepPlan(batch, self._cache.capacity, self._device)
        wanted: dict[int, list[int]] = {}
        at = 0
        for span in plan.order:
            at += len(span.tokens)
            wanted[span.slot] = list(range(at - span.n_rows, at))
        rows = [row for span in batch for row in wanted[span.slot]]
        if self._written is not None:
            return self._to_numpy(self._written.logits(plan, torch.tensor(rows or [0]))[: len(rows)])
        output = self._model(
            input_ids=plan.tokens,
            position_ids=plan.positions,
            use_cache=False,
            logits_to_keep=self._rows(rows or [0]),
        )
        return self._to_numpy(output.logits[0, : len(rows)])

    def _decode_step(self, plan: DecodePlan) -> torch.Tensor:
        """Logits of one token of each slot of the plan, [n_slots, n_vocab]."""
        self._attention.plan = plan
        logits: torch.Tensor = self._model(
            input_ids=plan.tokens, position_ids=plan.positions, use_cache=False
        ).logits
        return logits[0]

    def _rows(self, rows: list[int]) -> torch.Tensor | list[int]:
        """A tensor; a list where the last layer is on another GPU than the first, whose tensor could not index it."""
        return rows if self._spread else torch.tensor(rows, device=self._device)

    def _to_numpy(self, logits: torch.Tensor) -> NDArray[np.float32]:
        """As float32 in main memory; that of a copy is kept while it fits, as new memory takes ten times as long."""
        if logits.dtype == torch.float32 and logits.device.type == "cpu":
            own: NDArray[np.float32] = logits.numpy()
            return own
        n = logits.shape[0]
        if not n <= self._logits.shape[0] <= 4 * n + _SPARE_ROWS:
            self._logits = torch.empty(logits.shape, dtype=torch.float32)
        kept: NDArray[np.float32] = self._logits[:n].copy_(logits).numpy()
        return kept

    @torch.inference_mode()
    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        self._cache.reserve(max(src, dst) + 1, n)
        self._cache.copy_prefix(src, dst, n)

    def truncate(self, slot: int, n: int) -> None:
        """Nothing to do: what lies behind a slot's last token is never attended to."""

    def saved_bytes(self, slot: int, n: int) -> int:
        return self._cache.saved_bytes(n)

    @torch.inference_mode()
    def save(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        for held, part in self._cache.parts(slot, torch.from_numpy(memory), n):
            part.copy_(held)

    @torch.inference_mode()
    def restore(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        self._cache.reserve(slot + 1, n)
        for held, part in self._cache.parts(slot, torch.from_numpy(memory), n):
            held.copy_(part)


def _trained_context(config: Any) -> int:
    return getattr(config, "max_position_embeddings", None) or 4096


def _kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * n_kv_heads * width * dtype.itemsize


def _vocabulary(head: Any) -> int:
    """Rows of the output head; a packed one has another number of stored rows."""
    return int(getattr(head, "out_features", None) or head.weight.shape[0])


def _check_architecture(name: str, config: Any) -> None:
    """Only layers of plain attention have a cache that can be divided into slots."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - _ATTENTION_LAYERS:
        raise ModelUnusableError(
            f"'{name}' has layers of a kind that cannot be batched here: {', '.join(sorted(unknown))}",
            hint="use a GGUF of this model",
        )


def _eos_ids(model: Any) -> set[int]:
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    if eos is None:
        eos = model.config.get_text_config().eos_token_id
    if eos is None:
        return set()
    return set(eos) if isinstance(eos, (list, tuple)) else {eos}


def _quiet() -> None:
    """The libraries' warnings and progress bars are not for the user."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")

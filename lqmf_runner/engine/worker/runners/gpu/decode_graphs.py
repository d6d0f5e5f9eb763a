"""Decode steps that are recorded once and replayed without Python between the kernels: CUDA graphs.

A small batch of decode tokens keeps a GPU busy for less time than Python takes to start its kernels. A recorded step
starts them all at once. It reads its input where the first one did, so the input is copied there, and it computes a
fixed number of slots and keys, so there is a recording for each of these sizes that occurs. Everything else runs as
without recordings: prompts, drafts, models over several GPUs, and all steps once a recording has failed.

Not proved on a GPU: the tests replay recorded operations on a CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol

import torch

from ..base import Span
from ..closeness import ROUNDING, difference
from ..slot_attention import Plan, Prefill, SlotCache, power_of_two
from .flash import FlashDecode, Varlen

_LEAST_KEYS = 256

Replay = Callable[[], torch.Tensor]
"""Computes what was recorded and returns its result, the same tensor every time."""

log = logging.getLogger(__name__)


class Capture(Protocol):
    """Records work."""

    def __call__(self, work: Callable[[], torch.Tensor]) -> Replay:
        """Record what `work` computes; it may be run several times for this."""
        ...


class CudaCapture:
    """Records CUDA graphs, which share their memory: only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], torch.Tensor]) -> Replay:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()  # at their first call, kernels tune and allocate, which must not be recorded
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the worker do not compute on the GPU, but libraries may query it.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = work()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


class DecodePlan(Plan):
    """A step of one token for each of the slots 0 to n_slots - 1, in tensors that stay where they are.

    A slot that has no token in a step gets a token whose key and value go to the cache's spare slot; what it gives is
    not read.
    """

    prefills: Sequence[Prefill] = ()
    dense = True
    first_slot = 0

    def __init__(self, n_slots: int, n_keys: int, cache: SlotCache, device: torch.device) -> None:
        self.n_slots = self.n_decode = n_slots
        self.last_slot = n_slots - 1
        self.n_keys = n_keys
        self._capacity, self._spare = cache.capacity, cache.spare_slot * cache.capacity
        self._host = torch.zeros((3, n_slots), dtype=torch.long, pin_memory=device.type == "cuda")
        self._inputs = torch.zeros((3, n_slots), dtype=torch.long, device=device)
        self.tokens, self.positions, self.cache_rows = self._inputs[0:1], self._inputs[1:2], self._inputs[2]
        self._masks: dict[int | None, torch.Tensor] = {}
        self.flash: FlashDecode | None = None

    def use_flash(self, kernel: Varlen) -> None:
        """Let decode tokens attend with this kernel."""
        self.flash = FlashDecode(kernel, self.positions, self._capacity, self.n_keys)

    def fill(self, batch: Sequence[Span]) -> None:
        """Put the tokens of a step in place."""
        host = self._host.numpy()
        host[0], host[1], host[2] = 0, 0, self._spare
        for span in batch:
            host[:, span.slot] = span.tokens[0], span.start, span.slot * self._capacity + span.start
        self._inputs.copy_(self._host)

    def begin(self) -> None:
        """Drop values that were derived from the positions of the previous step."""
        self._masks.clear()

    def on(self, device: torch.device) -> DecodePlan:
        return self

    def decode_mask(self, window: int | None) -> torch.Tensor:
        if window not in self._masks:
            last = self.positions[0][:, None]
            keys = torch.arange(self.n_keys, device=last.device)
            mask = keys <= last
            if window is not None:
                mask &= keys > last - window
            self._masks[window] = mask[:, None, None, :]
        return self._masks[window]

    def prefill_mask(self, index: int, window: int | None) -> NoReturn:
        raise IndexError(index)


class DecodeGraphs:
    """The recorded steps of a model, each made when its size first occurs.

    Attributes:
        failure: why nothing is recorded any more, as a sentence for the model's notes; None while all is well.
    """

    def __init__(
        self,
        cache: SlotCache,
        n_slots: int,
        device: torch.device,
        run: Callable[[DecodePlan], torch.Tensor],
        capture: Capture,
        flash: Varlen | None = None,
    ) -> None:
        """Make it, with nothing recorded.

        Args:
            cache: it has a spare slot.
            n_slots: the most that it may get.
            run: a step of the model; gives the logits of its rows, [n_slots, n_vocab].
            flash: a kernel for decode tokens, which is left out where it fails.
        """
        self.failure: str | None = None
        self._cache, self._n_slots, self._device = cache, n_slots, device
        self._run, self._capture, self._flash = run, capture, flash
        self._recorded: dict[tuple[int, int], tuple[DecodePlan, Replay]] = {}
        self._generation = cache.generation

    def step(self, batch: Sequence[Span]) -> torch.Tensor | None:
        """Logits of a step in the order of the batch, [rows, n_vocab], valid until the next one; None: not for us."""
        if self.failure is not None or not all(len(s.tokens) == s.n_rows == 1 for s in batch):
            return None
        if self._generation != self._cache.generation:  # recordings refer to the old cache
            self._recorded.clear()
            self._generation = self._cache.generation
        n_slots = min(power_of_two(max(s.slot for s in batch) + 1), self._n_slots)
        longest = power_of_two(max(s.end for s in batch))
        size = n_slots, min(max(longest, _LEAST_KEYS), self._cache.capacity)
        if size not in self._recorded and not self._record(size, batch):
            return None
        plan, replay = self._recorded[size]
        plan.fill(batch)
        logits = replay()
        slots = [s.slot for s in batch]
        if slots == list(range(n_slots)):
            return logits
        return logits[torch.tensor(slots, device=self._device)]

    def _record(self, size: tuple[int, int], batch: Sequence[Span]) -> bool:
        """Record a step of a size, and compare it with the same step without a recording and without `flash`."""
        slots = torch.tensor([s.slot for s in batch], device=self._device)
        for flash in dict.fromkeys((self._flash, None)):
            plan = DecodePlan(*size, self._cache, self._device)
            if flash is not None:
                plan.use_flash(flash)
            plan.fill(batch)
            try:
                plain = DecodePlan(*size, self._cache, self._device)
                plain.fill(batch)
                expected = self._computed(plain)[slots].clone()
                replay = self._capture(partial(self._computed, plan))
                off = difference(replay()[slots], expected)
                problem = (
                    None if off <= ROUNDING else f"a recorded step gives logits that are off by {off:.1%}"
                )
            except Exception as error:
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if problem is None:
                self._flash = flash
                self._recorded[size] = plan, replay
                return True
            if flash is not None:
                log.warning("flash attention for decode steps is off: %s", problem)
        self._recorded.clear()
        self.failure = f"decode steps run without CUDA graphs: {problem}"
        log.warning(self.failure)
        return False

    def _computed(self, plan: DecodePlan) -> torch.Tensor:
        plan.begin()
        return self._run(plan)

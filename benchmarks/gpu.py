"""Our engine on a GPU beside transformers' own continuous batching: `python benchmarks/gpu.py [--only 1b]`.

The models have the shapes of Llamas of 1 and 8 billion parameters, random weights and bfloat16, and are made on the
spot (2.5 and 16 GB on disk). Contenders are loaded side by side and alternate repeat by repeat: ours as it is, ours
without CUDA graphs, and `ContinuousBatchingManager`. Prompts are random tokens, all different, and every answer has
its full length. The model `tiny` runs on a CPU too and only shows that the program works.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from child import Child
from engine import time_answers
from models.random_weights import SHAPES, random_checkpoint
from table import Row, row, run_sections

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.types import ModelSpec

CONCURRENCY = (1, 4, 8, 16, 32)
N_PROMPT, N_TOKENS = 128, 128
CACHE_SHARE = 0.4  # of the memory that is free when transformers loads
OURS, NO_GRAPHS, THEIRS = "ours", "ours without graphs", "transformers"

Run = Callable[[list[list[int]], int], Awaitable[float]]  # (prompts, tokens) -> seconds


async def main() -> None:
    await run_sections({name: partial(compare, name) for name in ("tiny", "1b", "8b")}, __doc__)


async def compare(shape: str, repeats: int) -> AsyncIterator[Row]:
    """Output tokens a second at each concurrency, and the time of a first token at one."""
    on_gpu = torch.cuda.is_available()
    if shape != "tiny" and not on_gpu:
        print(f"{shape}: skipped, there is no CUDA GPU")
        return
    dtype = "bfloat16" if on_gpu else "float32"
    folder = random_checkpoint(shape)
    engines = [
        await load_engine(_spec(shape, folder, dtype, graphs))
        for graphs in ((True, False) if on_gpu else (True,))
    ]
    theirs = Child(sys.executable, "raw_continuous.py", str(folder), dtype, str(CACHE_SHARE))
    for engine in engines:
        print(f"{engine.info.name}: {engine.info.device}, {'; '.join(engine.info.notes) or 'no notes'}")
    contenders: dict[str, Run] = dict(zip((OURS, NO_GRAPHS), map(_ours, engines), strict=False))
    contenders[THEIRS] = _theirs(theirs)
    random = np.random.default_rng(0)
    try:
        for concurrency in CONCURRENCY if on_gpu else CONCURRENCY[:2]:
            for n_tokens, unit in ((N_TOKENS, "tok/s"), (1, "ms")):
                seconds: dict[str, list[float]] = {name: [] for name in contenders}
                for repeat in range(-1, repeats):  # the first one warms up
                    shaped = (concurrency, N_PROMPT)
                    prompts = random.integers(3, SHAPES[shape]["vocab_size"], shaped).tolist()
                    for name, run in contenders.items():
                        took = await run(prompts, n_tokens)
                        if repeat >= 0:
                            seconds[name].append(took)
                yield _row(shape, concurrency, n_tokens, unit, seconds)
    finally:
        theirs.close()
        for engine in engines:
            await engine.close()


def _row(shape: str, concurrency: int, n_tokens: int, unit: str, seconds: dict[str, list[float]]) -> Row:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if unit == "ms":  # all prompts and one token of each
        figures = {name: 1000 * value for name, value in medians.items()}
        what = f"{shape}, {concurrency} prompts and a token each"
    else:
        figures = {name: concurrency * n_tokens / value for name, value in medians.items()}
        what = f"{shape}, {concurrency} concurrent, output"
    others = [name for name in figures if name != OURS]
    text = " ".join(f"{figures[OURS] / figures[name]:.2f}x {name} ({figures[name]:.0f})" for name in others)
    return row(what, figures[OURS], unit, text, all=seconds, ratio=figures[OURS] / figures[THEIRS])


def _spec(shape: str, folder: Path, dtype: str, graphs: bool) -> ModelSpec:
    options = {
        "dtype": dtype,
        "cuda_graphs": graphs,
        "max_slots": CONCURRENCY[-1],
        "n_ctx": 1024,
        "prefix_reuse": False,
        "prompt_cache_mb": 0,
        "speculation": "off",  # random text has nothing to copy
        "n_batch": 2048,
        "n_threads": 1,  # on a CPU, where the model is too small for more
    }
    name = f"{shape}, {'CUDA graphs' if graphs else 'no graphs'}"
    return ModelSpec(name=name, format="transformers", path=str(folder), options=options)


def _ours(engine: EngineClient) -> Run:
    async def run(prompts: list[list[int]], n_tokens: int) -> float:
        return await time_answers(engine, prompts, n_tokens)

    return run


def _theirs(child: Child) -> Run:
    async def run(prompts: list[list[int]], n_tokens: int) -> float:
        answer = await asyncio.to_thread(child.ask, {"prompts": prompts, "n_tokens": n_tokens})
        assert answer["lengths"] == [n_tokens] * len(prompts)
        seconds: float = answer["seconds"]
        return seconds

    return run


if __name__ == "__main__":
    asyncio.run(main())

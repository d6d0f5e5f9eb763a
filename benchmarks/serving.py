"""Our server beside other servers: `python benchmarks/serving.py [--only gguf] [--repeats 5] [--json FILE]`.

The same streaming chat requests go to each server from one load generator; the servers are up side by side, take turns
repeat by repeat, and each figure is the median of the repeats. Needs the demo models (`make demo-models`) and the
peers (`make peers`). Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from child import Child
from engine import SHARED_SYSTEM, questions
from models.gguf_files import demo_as, demo_gguf, large_model
from servers import Server, llama_cpp_python, native, ours, transformers_serve
from table import ROOT, Row, row, run_sections

from lqmf_runner.engine import load_engine
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams

CONCURRENCY = (1, 4, 8, 16)
N_TOKENS = 64
CHAT = "/v1/chat/completions"


async def main() -> None:
    sections = {
        "gguf": gguf,
        "types": types,
        "large": large,
        "prefix": prefix,
        "conversation": conversation,
        "nf4": nf4,
        "gptq": gptq,
        "cost": cost,
    }
    await run_sections(sections, __doc__)


async def gguf(repeats: int) -> AsyncIterator[Row]:
    """The demo GGUF on the native server and on the one that comes with llama-cpp-python."""
    path = str(demo_gguf())
    for found in _compare("GGUF", [ours("smollm2_gguf"), native(path)], repeats):
        yield found
    single = [ours("smollm2_gguf"), llama_cpp_python(path)]  # it answers one request at a time
    for found in _compare("GGUF", single, min(repeats, 3), levels=(1, 4), rounds=1):
        yield found


async def types(repeats: int) -> AsyncIterator[Row]:
    """The demo model in other GGUF types on the native server."""
    for kind in ("Q4_0", "Q4_K_M", "Q8_0"):
        path = demo_as(kind)
        for found in _compare(kind, [_local(path), native(str(path))], repeats):
            yield found


async def large(repeats: int) -> AsyncIterator[Row]:
    """A model with the shape of a billion parameters, Q4_K_M, 24 tokens an answer, on the native server."""
    path = large_model()
    servers = [_local(path), native(str(path))]
    for found in _compare("1 B Q4_K_M", servers, min(repeats, 3), levels=(1, 4, 8), rounds=1, n_tokens=24):
        yield found


def _local(path: Path) -> Server:
    """Our server of a model in `quantized-models/`."""
    name = path.parent.name
    return ours(name, ROOT, "model=local", f"model.name={name}")


async def prefix(repeats: int) -> AsyncIterator[Row]:
    """The same with a system prompt of about 400 tokens in front of every question."""
    servers = [ours("smollm2_gguf"), native(str(demo_gguf()))]
    for found in _compare("GGUF, shared prefix of 400 tokens", servers, repeats, system=_long_system()):
        yield found


async def conversation(repeats: int) -> AsyncIterator[Row]:
    """Conversations that are taken up again after 40 others had the slots: first token of their second turn.

    The native server keeps prompts in main memory too. Ours runs a second time without that.
    """
    settings = ("model=smollm2_gguf", "backend.prompt_cache_mb=0")
    without = dataclasses.replace(ours("smollm2_gguf", ROOT, *settings), name="ours, prompt_cache_mb=0")
    servers = [ours("smollm2_gguf"), native(str(demo_gguf()), "--cache-ram", "8192"), without]
    asked, number = _questions(), itertools.count()
    measured: dict[str, list[float]] = {server.name: [] for server in servers}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client())
        urls = [stack.enter_context(server.run()) for server in servers]
        for repeat in range(-1, repeats):  # the first one warms up
            stories = [_body(f"Story {next(number)}. {_long_system()}", next(asked), 1) for _ in range(4)]
            # They begin differently, so that none goes on from another's slot.
            others = [_body(f"{next(number)} is your guest.", "Which hall is open?", 1) for _ in range(40)]
            again = [
                body | {"messages": [*body["messages"], *_second_turn(next(asked))], "max_tokens": 8}
                for body in stories
            ]
            for server, url in zip(servers, urls, strict=True):
                own = server.extra | {"model": server.model}
                for bodies, concurrency in ((stories, 1), (others, 8)):
                    _ask(client, url, [body | own for body in bodies], concurrency)
                figures = _figures(_ask(client, url, [body | own for body in again], 1))
                if repeat >= 0:
                    measured[server.name].append(figures["TTFT p50 ms"])
    mine, *others_medians = ((name, statistics.median(values)) for name, values in measured.items())
    for name, theirs in others_medians:
        yield _beside("a conversation taken up again, TTFT p50", mine[1], "ms", theirs, name, all=measured)


def _second_turn(question: str) -> list[dict[str, str]]:
    return [
        {"role": "assistant", "content": "There are three exhibits of that kind."},
        {"role": "user", "content": question},
    ]


async def nf4(repeats: int) -> AsyncIterator[Row]:
    """NF4 on `transformers serve`, with and without continuous batching."""
    for found in _transformers("NF4", "smollm2_bnb4", "smollm2_bnb_4bit", repeats):
        yield found


async def gptq(repeats: int) -> AsyncIterator[Row]:
    """GPTQ on `transformers serve`, with and without continuous batching."""
    for found in _transformers("GPTQ", "smollm2_gptq4", "smollm2_gptq_4bit", repeats):
        yield found


async def cost(repeats: int) -> AsyncIterator[Row]:
    """What the server itself costs: a model of a few hundred kilobytes on one thread, one token an answer."""
    sys.path.insert(0, str(ROOT))
    from tests.support.models.tiny import make_gguf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized-models" / "tiny" / "model.gguf"
        path.parent.mkdir(parents=True)
        make_gguf(path)
        us = ours("tiny", Path(folder), "model=local", "model.name=tiny", "backend.n_threads=1")
        bodies = [_body("", f"{n}", 1) for n in range(400)]
        with (
            _client() as client,
            us.run() as our_url,
            llama_cpp_python(str(path), threads=1).run() as their_url,
        ):
            speeds: dict[str, list[float]] = {"ours": [], "llama_cpp.server": []}
            for _ in range(repeats + 1):
                for name, url, model in (
                    ("ours", our_url, "tiny"),
                    ("llama_cpp.server", their_url, "model"),
                ):
                    whole = {"model": model, "stream": False, "stream_options": None}
                    done = _ask(client, url, [body | whole for body in bodies], 16)
                    speeds[name].append(len(bodies) / done["seconds"])
            ours_rps, theirs = (statistics.median(values[1:]) for values in speeds.values())
            what = "server's own cost, 16 concurrent"
            yield _beside(what, ours_rps, "1/s", theirs, "llama_cpp.server")
            over_http = []
            for _ in range(repeats):
                answers = _ask(client, our_url, [{**b, "model": "tiny"} for b in bodies[:200]], 1)["answers"]
                over_http.append(statistics.median(a["ended"] - a["sent"] for a in answers))
        direct = await _in_process(
            ModelSpec(name="tiny", format="gguf", path=str(path), options={"n_threads": 1}), repeats
        )
        added = statistics.median(over_http) - direct
        text = f"{statistics.median(over_http) * 1e3:.2f} over HTTP, {direct * 1e3:.2f} in process"
        yield row("added latency over the in-process client, p50", added * 1e3, "ms", text)


async def _in_process(spec: ModelSpec, repeats: int) -> float:
    """Median seconds of a request of the same kind through `EngineClient`."""
    times = []
    async with await load_engine(spec) as engine:
        for n in range(200 * repeats):
            began = time.perf_counter()
            sampling = SamplingParams(max_tokens=1, temperature=0)
            prompt = GenerationRequest(prompt=f"<|im_start|>user\n{n}<|im_end|>\n", sampling=sampling)
            await engine.complete(prompt)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _transformers(label: str, model: str, folder: str, repeats: int) -> Iterator[Row]:
    path = str(ROOT / "quantized-models" / folder)
    servers = [ours(model), *(transformers_serve(path, continuous=on) for on in (True, False))]
    yield from _compare(label, servers, min(repeats, 3), rounds=1)


def _compare(
    title: str,
    servers: Sequence[Server],
    repeats: int,
    *,
    system: str = "",
    rounds: int = 2,
    levels: Sequence[int] = CONCURRENCY,
    n_tokens: int = N_TOKENS,
) -> Iterator[Row]:
    """Alternate the servers at each concurrency; the first is ours. `rounds` requests a user and repeat."""
    asked = _questions()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client())
        urls = [stack.enter_context(server.run()) for server in servers]
        for concurrency in levels:
            measured: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
            for repeat in range(-1, repeats):  # the first one warms up
                bodies = [
                    _body(system, question, n_tokens)
                    for question in itertools.islice(asked, rounds * concurrency)
                ]
                for server, url in zip(servers, urls, strict=True):
                    own = server.extra | {"model": server.model}
                    figures = _figures(_ask(client, url, [body | own for body in bodies], concurrency))
                    if repeat >= 0:
                        measured[server.name].append(figures)
            medians = {
                name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                for name, runs in measured.items()
            }
            mine = medians.pop(servers[0].name)
            for name, theirs in medians.items():
                for key, value in mine.items():
                    what = f"{title}, {concurrency} concurrent, {key}"
                    yield _beside(what, value, "", theirs[key], name, all=measured)


def _questions() -> Iterator[str]:
    """Questions without end, no two alike, whose answers are longer than what is measured."""
    for number, question in enumerate(itertools.cycle(questions())):
        yield f"({number}) Answer in three hundred words. {question}"


def _figures(done: dict[str, Any]) -> dict[str, float]:
    answers = done["answers"]
    ttft = [a["arrivals"][0] - a["sent"] for a in answers if a["arrivals"]]
    gaps = [gap for a in answers for gap in np.diff(a["arrivals"])]
    return {
        "tok/s": sum(a["tokens"] for a in answers) / done["seconds"],
        "TTFT p50 ms": float(np.median(ttft)) * 1e3,
        "ITL p99 ms": float(np.percentile(gaps, 99)) * 1e3,
        "tokens an answer": statistics.mean(a["tokens"] for a in answers),
    }


def _ask(client: Child, url: str, bodies: Sequence[Row], concurrency: int) -> dict[str, Any]:
    done = client.ask({"url": url, "path": CHAT, "bodies": list(bodies), "concurrency": concurrency})
    if "error" in done:
        raise RuntimeError(done["error"])
    return done


@contextlib.contextmanager
def _client() -> Iterator[Child]:
    client = Child(sys.executable, "http_client.py")
    try:
        yield client
    finally:
        client.close()


def _body(system: str, question: str, n_tokens: int) -> Row:
    messages = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [*messages, {"role": "user", "content": question}],
        "max_tokens": n_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _long_system() -> str:
    """About 400 tokens."""
    rules = [f"Rule {n}: in hall {n}, speak of nothing but exhibit {n * 7 % 40}." for n in range(1, 15)]
    return f"{SHARED_SYSTEM} {' '.join(rules)}"


def _beside(what: str, value: float, unit: str, theirs: float, peer: str, **more: Any) -> Row:
    ratio = value / theirs
    return row(what, value, unit, f"{ratio:.2f} x {peer} ({theirs:.1f})", ratio=ratio, theirs=theirs, **more)


if __name__ == "__main__":
    asyncio.run(main())

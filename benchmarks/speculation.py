"""Speculation beside decoding without it: `python benchmarks/speculation.py [--repeats N] [--draft MODEL] MODEL...`.

A MODEL is a GGUF or a folder. All workers are loaded at once and alternate repeat by repeat; figures are medians of
output tokens per second. "copy" asks for a text of 300 words again, "new" for stories that have nothing to copy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

from models.gguf_files import stretched

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.models import inspect_model
from lqmf_runner.types import GenerationRequest, Message, ModelSpec, SamplingParams

TEXT = (Path(__file__).parent / "speculation.txt").read_text(encoding="utf-8")
COPY = f"Repeat the following text word for word, without any comment.\n\n{TEXT}"
SUBJECTS = (
    "a lighthouse", "two foxes", "the last train", "a broken clock", "an old map", "a garden on a roof",
    "a letter without a name", "the first snow", "a blue door", "three sisters", "a stone bridge", "a lost dog",
    "the night market", "a paper boat", "an empty theatre", "a wooden horse",
)  # fmt: skip


def requests(task: str, n: int, round_number: int, n_tokens: int) -> list[GenerationRequest]:
    """The requests of one round; every round asks for other stories, both contenders for the same."""
    if task == "copy":
        return [_ask(f"{COPY}\n\nCopy number {round_number * 100 + i}.", n_tokens) for i in range(n)]
    subjects = [SUBJECTS[(round_number + i) % len(SUBJECTS)] for i in range(n)]
    return [_ask(f"Write a story about {subject}, number {round_number}.", n_tokens) for subject in subjects]


def _ask(text: str, n_tokens: int) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=n_tokens, temperature=0, ignore_eos=True)
    return GenerationRequest(messages=(Message("user", text),), sampling=sampling)


async def speed(engine: EngineClient, asked: list[GenerationRequest]) -> tuple[float, int, int, list[Any]]:
    """Output tokens per second of decoding, tokens drafted and accepted, and the answers' tokens."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(engine.complete(request) for request in asked))
    seconds = time.perf_counter() - began
    usages = [answer.usage for answer in answers]
    seconds -= usages[0].queue_s + usages[0].prefill_s if len(asked) == 1 else 0.0
    n_tokens = sum(usage.completion_tokens for usage in usages)
    drafted, accepted = (
        sum(getattr(u, f"{kind}_tokens") for u in usages) for kind in ("drafted", "accepted")
    )
    return n_tokens / seconds, drafted, accepted, [answer.token_ids for answer in answers]


async def compare(
    path: Path,
    cases: list[tuple[str, int]],
    repeats: int,
    n_tokens: int,
    *,
    draft: Path | None,
    n_threads: int | None,
) -> list[dict[str, Any]]:
    """One row a case, of one model."""
    found = inspect_model(path)
    plain = {"max_slots": 16, "n_ctx": 1024, "prefix_reuse": False, "n_threads": n_threads}
    kinds = {
        "off": {"speculation": "off"},
        "ngram": {},
        **({"draft": {"draft_model": str(draft)}} if draft else {}),
    }
    contenders = {
        kind: await load_engine(
            ModelSpec(name=path.name, format=found.format, path=str(path), options={**plain, **options})
        )
        for kind, options in kinds.items()
    }
    rows = []
    try:
        for task, n in cases:
            speeds: dict[str, list[float]] = {kind: [] for kind in contenders}
            counts = {kind: [0, 0, 0] for kind in contenders}
            for repeat in range(repeats):
                texts: dict[str, list[Any]] = {}
                order = list(contenders.items())
                for kind, engine in order if repeat % 2 else reversed(order):
                    figure, drafted, accepted, texts[kind] = await speed(
                        engine, requests(task, n, repeat, n_tokens)
                    )
                    speeds[kind].append(figure)
                    counts[kind][0] += drafted
                    counts[kind][1] += accepted
                for kind, text in texts.items():
                    counts[kind][2] += text == texts["off"]
            for kind in list(contenders)[1:]:
                ratio = statistics.median(b / a for a, b in zip(speeds["off"], speeds[kind], strict=True))
                drafted, accepted, same = counts[kind]
                rows.append(
                    {"model": path.name, "task": task, "requests": n, "off": round(statistics.median(speeds["off"]), 1),
                     kind: round(statistics.median(speeds[kind]), 1), "ratio": round(ratio, 3), "drafted": drafted,
                     "accepted": accepted, "same": f"{same}/{repeats}"}
                )  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    finally:
        for engine in contenders.values():
            await engine.close()
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--cases", default="copy:1,new:1,new:4,new:8,new:16", help="task:requests, ...")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--draft", type=Path, help="a draft model, as a third contender")
    parser.add_argument("--stretch", type=int, default=1, help="make a GGUF so many times as costly")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    cases = [(task, int(n)) for task, n in (case.split(":") for case in asked.cases.split(","))]
    rows = [
        row
        for path in (stretched(p, asked.stretch) if asked.stretch > 1 else p for p in asked.models)
        for row in await compare(
            path, cases, asked.repeats, asked.tokens, draft=asked.draft, n_threads=asked.threads
        )
    ]
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())

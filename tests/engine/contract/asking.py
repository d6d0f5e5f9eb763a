"""Requests that a test asks an engine again and again."""

from __future__ import annotations

import asyncio

from lqmf_runner.engine.client import EngineClient
from lqmf_runner.types import Completion, GenerationRequest, SamplingParams


def greedy(prompt: str, n: int = 24, **more: object) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=n, temperature=0, ignore_eos=True, **more)  # type: ignore[arg-type]
    return GenerationRequest(prompt=prompt, sampling=sampling)


async def run_all(engine: EngineClient, requests: list[GenerationRequest]) -> list[Completion]:
    return await asyncio.gather(*(engine.complete(request) for request in requests))

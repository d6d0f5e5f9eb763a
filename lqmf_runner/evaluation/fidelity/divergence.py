"""The first token at which a model's greedy answers differ from the reference's. Readers notice this of a
quantization.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from ...concurrent import for_each
from ...config import PromptsConfig
from ...engine.client import EngineClient
from ...results.quality import Divergence, Parting
from ...types import Completion, GenerationRequest, Message, SamplingParams


def greedy_requests(prompts: PromptsConfig, max_tokens: int, *, chat: bool) -> dict[str, GenerationRequest]:
    """A greedy request for the first turn of every prompt, by prompt id."""
    return opening_requests(prompts, SamplingParams(max_tokens=max_tokens, temperature=0), chat=chat)


def opening_requests(
    prompts: PromptsConfig, sampling: SamplingParams, *, chat: bool
) -> dict[str, GenerationRequest]:
    """A request for the first turn of every prompt, by prompt id; plain text if there is no chat template."""
    requests = {}
    for entry in prompts.entries:
        text = entry.prompt or entry.turns[0]
        if chat:
            system = (Message("system", prompts.system),) if prompts.system else ()
            requests[entry.id] = GenerationRequest(
                messages=(*system, Message("user", text)), sampling=sampling
            )
        else:
            requests[entry.id] = GenerationRequest(prompt=text, sampling=sampling)
    return requests


async def answer_all(
    client: EngineClient,
    requests: Mapping[str, GenerationRequest],
    on_progress: Callable[[int], None] = lambda done: None,
    *,
    at_a_time: int = 8,
) -> dict[str, Completion]:
    """The answers by the requests' keys. Their token ids include the end-of-sequence token.

    Args:
        at_a_time: most requests that run together.

    Raises:
        LqmfError: a request failed.
    """
    answers: dict[str, Completion] = {}

    async def ask(prompt_id: str) -> None:
        answers[prompt_id] = await client.complete(requests[prompt_id])
        on_progress(len(answers))

    await for_each(requests, ask, at_a_time=min(at_a_time, client.info.max_slots))
    return answers


async def begin_reproducibly(client: EngineClient) -> int:
    """How many requests may run together without changing each other's numbers; no earlier prompt is reused."""
    await client.reset_prefix_cache()
    return client.info.max_slots if client.info.batch_invariant else 1


def first_divergence(answer: Sequence[int], reference: Sequence[int]) -> int | None:
    """Index of the first token at which two lists differ, including the end of one of them. None if they are equal."""
    for at, (x, y) in enumerate(zip(answer, reference, strict=False)):
        if x != y:
            return at
    return None if len(answer) == len(reference) else min(len(answer), len(reference))


def divergence(
    answers: Mapping[str, Sequence[int]], reference: Mapping[str, Sequence[int]], max_tokens: int
) -> Divergence:
    """Where each answer differs from the reference's. Answers that never differ count as beyond the last token."""
    first = [
        Parting(prompt, first_divergence(answers[prompt], tokens)) for prompt, tokens in reference.items()
    ]
    median = statistics.median(max_tokens if parting.token is None else parting.token for parting in first)
    return Divergence(
        tokens=max_tokens,
        median=None if median >= max_tokens else median,
        identical=sum(parting.token is None for parting in first) / len(first),
        first=first,
    )

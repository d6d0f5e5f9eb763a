"""Answer the items of a batch, several at a time. An item is retried after temporary errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ...concurrent import for_each
from ...engine.client import EngineClient
from ...errors import (
    EngineLostError,
    InvalidRequestError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
    UserInputError,
)
from ...openai_api.exchange import Exchange, total_usage
from ...types import Completion, GenerationRequest, Usage
from .input import BatchItem
from .output import Outcome

_MAY_PASS = (QueueFullError, RemoteEngineError)
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class BatchPlan:
    """How many items run at a time, and how they are retried.

    Attributes:
        retries: times an item is sent again.
        retry_wait_s: before the first of them; each next one waits twice as long. All wait longer where the engine
            says so (`Retry-After`), and at most a minute.
    """

    concurrency: int = 8
    retries: int = 3
    retry_wait_s: float = 1.0


async def run_batch(
    client: EngineClient,
    items: Iterator[BatchItem],
    plan: BatchPlan,
    *,
    on_outcome: Callable[[BatchItem, Outcome], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Answer all items. `on_outcome` is called as each item ends; an error that it raises ends the batch.

    Raises:
        EngineLostError: the engine died.
        UserInputError: the endpoint refuses the key, so that it would refuse all other items too.
    """

    token_texts: dict[int, str] = {}

    async def work(item: BatchItem) -> None:
        on_outcome(item, await _answer(client, item.exchange, plan, clock, token_texts))

    await for_each(items, work, at_a_time=plan.concurrency)


async def _answer(
    client: EngineClient,
    exchange: Exchange,
    plan: BatchPlan,
    clock: Callable[[], float],
    token_texts: dict[int, str],
) -> Outcome:
    failure: LqmfError | None = None
    for attempt in range(plan.retries + 1):
        if failure is not None:
            wait = max(plan.retry_wait_s * 2 ** (attempt - 1), failure.retry_after_s or 0.0)
            await asyncio.sleep(min(wait, _LONGEST_WAIT_S))
        sent = clock()
        try:
            await exchange.prepare(client, token_texts)
            done = await _complete(client, exchange.requests)
            usages = {index: completion.usage for index, completion in enumerate(done)}
            usage = total_usage(usages, exchange.n) if usages else Usage()
            return Outcome(completions=done, usage=usage, attempts=attempt + 1, e2e_s=clock() - sent)
        except LqmfError as error:
            if _concerns_all(error):
                raise
            failure = error
        except (OSError, TimeoutError) as error:
            failure = RemoteEngineError(f"the connection failed: {type(error).__name__}")
        if not isinstance(failure, _MAY_PASS):
            break
    return Outcome(error=failure, attempts=attempt + 1, e2e_s=clock() - sent)


async def _complete(client: EngineClient, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """All completions, in the order of their requests. The first error cancels the others."""
    done: dict[int, Completion] = {}

    async def one(numbered: tuple[int, GenerationRequest]) -> None:
        done[numbered[0]] = await client.complete(_for_model(client, numbered[1]))

    await for_each(enumerate(requests), one, at_a_time=min(len(requests), client.info.max_slots))
    return [done[index] for index in range(len(requests))]


def _concerns_all(error: LqmfError) -> bool:
    wrong_setting = isinstance(error, UserInputError) and not isinstance(error, InvalidRequestError)
    return isinstance(error, EngineLostError) or wrong_setting


def _for_model(client: EngineClient, request: GenerationRequest) -> GenerationRequest:
    """The request as the model can take it: without a chat template, a single prompt becomes plain text."""
    if client.info.chat_template or request.messages is None or len(request.messages) > 1:
        return request
    return msgspec.structs.replace(request, messages=None, prompt=request.messages[0].content)

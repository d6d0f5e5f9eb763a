"""Answer the items of a batch: several at a time, each tried again after errors that may pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
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
from ...types import GenerationRequest
from .input import BatchItem
from .output import Outcome

_MAY_PASS = (QueueFullError, RemoteEngineError)
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class BatchPlan:
    """How to go about it.

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
    """Answer all items; `on_outcome` is called as each ends, and what it raises ends the batch.

    Raises:
        EngineLostError: the engine died.
        UserInputError: the endpoint refuses the key, so that it would refuse all other items too.
    """

    async def work(item: BatchItem) -> None:
        on_outcome(item, await _answer(client, item, plan, clock))

    await for_each(items, work, at_a_time=plan.concurrency)


async def _answer(
    client: EngineClient, item: BatchItem, plan: BatchPlan, clock: Callable[[], float]
) -> Outcome:
    request = _for_model(client, item.request)
    failure: LqmfError | None = None
    for attempt in range(plan.retries + 1):
        if failure is not None:
            wait = max(plan.retry_wait_s * 2 ** (attempt - 1), failure.retry_after_s or 0.0)
            await asyncio.sleep(min(wait, _LONGEST_WAIT_S))
        sent = clock()
        try:
            done = await client.complete(request)
            return Outcome(completion=done, attempts=attempt + 1, e2e_s=clock() - sent)
        except LqmfError as error:
            if _concerns_all(error):
                raise
            failure = error
        except (OSError, TimeoutError) as error:
            failure = RemoteEngineError(f"the connection failed: {type(error).__name__}")
        if not isinstance(failure, _MAY_PASS):
            break
    return Outcome(error=failure, attempts=attempt + 1, e2e_s=clock() - sent)


def _concerns_all(error: LqmfError) -> bool:
    wrong_setting = isinstance(error, UserInputError) and not isinstance(error, InvalidRequestError)
    return isinstance(error, EngineLostError) or wrong_setting


def _for_model(client: EngineClient, request: GenerationRequest) -> GenerationRequest:
    """A model without a chat template completes a single prompt as it is."""
    if client.info.chat_template or request.messages is None or len(request.messages) > 1:
        return request
    return msgspec.structs.replace(request, messages=None, prompt=request.messages[0].content)

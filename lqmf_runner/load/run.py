"""Load generator: sends a prompt set to an engine in a given shape and times every request at the client.

A `LoadShape` (`closed_loop.py`, `open_loop.py`) decides when requests are sent and by which user; `run_load` sends and
times them.

While an answer streams, only the clock is read, once for each chunk. Timings are computed from these stamps when the
request has ended.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from ..engine.client import EngineClient
from ..errors import EngineLostError, LqmfError
from ..results.schema import RequestRecord
from ..types import Chunk, GenerationRequest, Message, SamplingParams
from .base import LoadShape
from .conversations import Conversation

Clock = Callable[[], float]


@dataclass
class LoadLog:
    """What a load has measured so far. It is consistent at any time, also after an interrupt.

    Attributes:
        started: clock when the load began.
        ended: clock when the last request ended.
        records: requests that ended, in the order in which they did.
    """

    started: float = 0.0
    ended: float = 0.0
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Wall time of the load, up to the last request that ended."""
        return max(0.0, self.ended - self.started)


async def run_load(
    client: EngineClient,
    load: LoadShape,
    conversations: Iterable[Conversation],
    sampling: SamplingParams,
    *,
    model: str = "",
    repeat: int = 0,
    log: LoadLog | None = None,
    on_record: Callable[[RequestRecord, Conversation], None] | None = None,
    clock: Clock = time.perf_counter,
) -> LoadLog:
    """Send `conversations` in the given shape and time each request.

    A request that fails is recorded with its error, and the rest of its conversation is not sent. `on_record` is
    called as each request ends. On cancellation the running requests are dropped; `log` keeps those that have ended.

    Raises:
        EngineLostError: the engine died. All its requests are recorded as failed, and nothing was sent after that.
    """
    sender = _Sender(
        client, load, sampling, model, repeat, LoadLog() if log is None else log, on_record, clock
    )
    log = sender.log
    # One shared generator: several users may take from it, each conversation goes to one of them.
    log.started = log.ended = clock()
    await load.drive(sender.until_lost(conversations), sender.send, lambda: clock() - log.started)
    if sender.lost is not None:
        raise sender.lost
    return log


@dataclass
class _Sender:
    """Sends the conversations of a load and records their requests.

    Attributes:
        lost: the first error that says that the engine is gone. Nothing is sent after it.
    """

    client: EngineClient
    load: LoadShape
    sampling: SamplingParams
    model: str
    repeat: int
    log: LoadLog
    on_record: Callable[[RequestRecord, Conversation], None] | None
    clock: Clock
    lost: EngineLostError | None = None

    def until_lost(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """The conversations, up to the loss of the engine."""
        for conversation in conversations:
            if self.lost is not None:
                return
            yield conversation

    async def send(self, conversation: Conversation, user: int, due: float | None = None) -> None:
        """Send the turns of a conversation one after the other, up to the first that fails."""
        messages = [Message("system", conversation.system)] if conversation.system else []
        for turn, text in enumerate(conversation.turns):
            if self.lost is not None:
                return
            messages.append(Message("user", text))
            record = RequestRecord(
                model=self.model, load=self.load.key, repeat=self.repeat, prompt_id=conversation.id, turn=turn,
                user=user, prompt=text, due_s=due if turn == 0 else None, error="not finished",
            )  # fmt: skip
            request = _request(conversation, messages, self.sampling)
            try:
                await _time_request(self.client, request, record, self.clock, self.log.started)
            except EngineLostError as error:
                self.lost = self.lost or error
            self.log.ended = self.clock()
            self.log.records.append(record)
            if self.on_record is not None:
                self.on_record(record, conversation)
            if record.error is not None:
                return
            messages.append(Message("assistant", record.text))


def _request(
    conversation: Conversation, messages: Sequence[Message], sampling: SamplingParams
) -> GenerationRequest:
    if conversation.output_tokens is not None:
        sampling = msgspec.structs.replace(sampling, max_tokens=conversation.output_tokens, ignore_eos=True)
    if conversation.plain:
        return GenerationRequest(prompt=messages[-1].content, sampling=sampling)
    return GenerationRequest(messages=tuple(messages), sampling=sampling)


async def _time_request(
    client: EngineClient, request: GenerationRequest, record: RequestRecord, clock: Clock, started: float
) -> None:
    """Send one request and fill in its record. Raises EngineLostError; other failures are written down."""
    chunks: list[Chunk] = []
    stamps: list[float] = []
    add_chunk, add_stamp = chunks.append, stamps.append
    sent = clock()
    record.sent_s = round(sent - started, 6)
    try:
        async for chunk in client.generate(request):
            add_stamp(clock())
            add_chunk(chunk)
        record.error = None
    except (LqmfError, OSError, TimeoutError) as error:
        record.error = f"{type(error).__name__}: {error}"
        if isinstance(error, EngineLostError):
            raise
    finally:
        fill_record(record, chunks, stamps, sent if record.due_s is None else started + record.due_s)


def fill_record(
    record: RequestRecord, chunks: Sequence[Chunk], stamps: Sequence[float], since: float
) -> None:
    """Work out a request's timings, which count from `since`, and tokens from its chunks and the time of each."""
    record.text = "".join(chunk.text for chunk in chunks)
    record.reasoning = "".join(chunk.reasoning for chunk in chunks)
    arrived: list[tuple[float, int]] = []
    held = tokens = 0
    for chunk, stamp in zip(chunks, stamps, strict=True):
        held += len(chunk.token_ids)
        tokens += len(chunk.token_ids)
        if chunk.text or chunk.reasoning:  # tokens held back so far (half a character) come out with this one
            arrived.append((stamp, max(1, held)))
            held = 0
    last = chunks[-1] if chunks else Chunk()
    record.finish_reason = last.finish_reason
    if record.error is None and last.finish_reason not in ("stop", "length"):
        record.error = f"the answer ended early ({last.finish_reason or 'no finish reason'})"
    usage = last.usage
    record.output_tokens = (usage.completion_tokens if usage else 0) or tokens
    if usage:
        record.prompt_tokens, record.cached_tokens = usage.prompt_tokens, usage.cached_tokens
        record.drafted_tokens, record.accepted_tokens = usage.drafted_tokens, usage.accepted_tokens
        record.draft_model_drafted_tokens = usage.draft_model_drafted_tokens
        record.draft_model_accepted_tokens = usage.draft_model_accepted_tokens
        record.queue_s, record.prefill_s, record.decode_s = usage.queue_s, usage.prefill_s, usage.decode_s
    if stamps:
        record.e2e_s = stamps[-1] - since
    if arrived:
        record.ttft_s = arrived[0][0] - since
        content = next((stamp for chunk, stamp in zip(chunks, stamps, strict=True) if chunk.text), None)
        record.first_content_s = None if content is None else content - since
        record.itl_s = [
            (after - before) / count
            for (before, _), (after, count) in itertools.pairwise(arrived)
            for _ in range(count)
        ]
        if record.output_tokens > 1:
            record.tpot_s = (stamps[-1] - arrived[0][0]) / (record.output_tokens - 1)

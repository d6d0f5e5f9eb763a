"""`Fleet`: the replicas of one model, started, started again when they are lost, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import reduce

from ...errors import ConflictError, EngineLostError, LqmfError, UserInputError
from ...types import EngineStats
from ..client import EngineClient
from .replica import DRAINING, READY, STARTING, Replica, added
from .sources import Progress, Source

log = logging.getLogger(__name__)


class Fleet:
    """Keeps as many replicas as are wanted.

    A lost replica is started again: the first time at once, then after 1, 2, 4 s and so on, up to a minute.

    Args:
        on_change: called when a replica is there or gone.

    Attributes:
        replicas: by number; those that end are among them until they are gone.
        gone: counters of replicas that are not there any more.
        changed: set when a replica is there, lost or gone.
    """

    def __init__(self, name: str, source: Source, on_change: Callable[[], None]) -> None:
        self.name = name
        self.replicas: list[Replica] = []
        self.gone = EngineStats()
        self.changed = asyncio.Event()
        self.closed = False
        self._source = source
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: set[EngineClient] = set()
        self._scaling = asyncio.Lock()
        self._wish = 0

    @property
    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    @property
    def wanted(self) -> list[Replica]:
        """Those that are not ending."""
        return [replica for replica in self.replicas if replica.state != DRAINING]

    @property
    def ready(self) -> list[Replica]:
        """Those that take requests."""
        return [replica for replica in self.replicas if replica.state == READY]

    @property
    def starting(self) -> bool:
        """Whether one is being started just now."""
        return any(replica.state == STARTING for replica in self.replicas)

    async def start(self, count: int, on_progress: Progress) -> None:
        """Start the first ones at the same time. Returns when all answer, or one if the source says that it will do.

        Raises:
            LqmfError: whatever a start failed with; none of them is left.
        """
        await self._add(count, on_progress, all_needed=self._source.all_needed)

    async def scale(self, count: int) -> None:
        """Start or end replicas until there are `count`. Returns when the new ones answer.

        Those that are ended take no more requests, and go when they have answered theirs. They do not wait for others
        that are being started: of several calls at once the last one counts. If more are wanted again before they have
        gone, they stay.

        Raises:
            ConflictError: there cannot be so many, or another number was asked for meanwhile.
            EngineLostError: the model was unloaded.
            LqmfError: what a start failed with; the number is then what it was.
        """
        most = self._source.most
        if most is not None and count > most:
            raise ConflictError(
                f"'{self.name}' cannot have {count} replicas",
                hint=f"choose 1 to {most}: so many endpoints were named",
            )
        if self.closed:
            raise self.unloaded()
        self._wish = count
        for replica in self._least_wanted(len(self.wanted) - count):
            self._drain(replica)
        self._notify()
        async with self._scaling:
            if self.closed:
                raise self.unloaded()
            await self._grow(count)
            check_last_wish(self.name, count, self._wish)

    def lost(self, replica: Replica, engine: EngineClient, error: LqmfError) -> None:
        """Start the replica again, unless that was begun already."""
        if replica.engine is not engine or self.closed:
            return
        log.error("replica %d of %s is lost: %s", replica.number, self.name, error.message)
        replica.leave(self.now)
        self._close_when_unused(replica, engine)
        if replica.state == DRAINING:
            self._forget(replica)
        else:
            self._begin_again(replica)
        self._notify()

    def unloaded(self) -> EngineLostError:
        """The error of what comes after the end."""
        return EngineLostError(f"'{self.name}' was unloaded", hint="load it again")

    async def close(self) -> None:
        """End all, with whatever they are doing."""
        self.closed = True
        self.changed.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        engines = {replica.engine for replica in self.replicas if replica.engine is not None}
        await asyncio.gather(*(engine.close() for engine in engines | self._leaving))

    async def _grow(self, count: int) -> None:
        """Have so many as long as that is the last wish: those that end and still answer stay, others are started."""
        while self._wish == count > len(self.wanted):
            ending = [replica for replica in self.replicas if replica.state == DRAINING]
            if staying := next((replica for replica in ending if replica.engine is not None), None):
                self._keep(staying)
            elif ending and self._source.most is not None:
                # Each endpoint has one number, which those that are being closed still hold.
                await _finished(replica.end for replica in ending)
            else:
                await self._add(count - len(self.wanted), None, all_needed=True)
                return

    async def _add(self, count: int, on_progress: Progress, *, all_needed: bool) -> None:
        new = [self._new() for _ in range(count)]
        shares = [0.0] * count

        async def start(index: int, replica: Replica) -> None:
            def progress(share: float) -> None:
                shares[index] = share
                if on_progress is not None:
                    on_progress(sum(shares) / count)

            await self._start(replica, progress)

        starts = [self._in_background(start(index, replica)) for index, replica in enumerate(new)]
        for replica, task in zip(new, starts, strict=True):
            replica.start = task
        try:
            await asyncio.wait(starts)
        except asyncio.CancelledError:
            # Some may be there already, and one of these may have been lost and be starting again.
            absent = [replica for replica in new if replica.engine is None and replica.state != DRAINING]
            await _finished([self._drain(replica) for replica in absent])
            raise
        if self.closed:
            raise self.unloaded()
        errors = [None if task.cancelled() else task.exception() for task in starts]
        started = [
            pair for pair in zip(new, errors, strict=True) if pair[0].state != DRAINING
        ]  # others are given up
        failures = [error for _, error in started if error is not None]
        fatal = [error for error in failures if all_needed or not _worth_trying_again(error)]
        if failures and (fatal or len(failures) == len(started)):
            await self._take_back([replica for replica, _ in started])
            raise (fatal or failures)[0]
        for replica, error in started:
            if error is not None:
                log.warning("replica %d of %s did not start: %s", replica.number, self.name, error)
                self._begin_again(replica)
        self._notify()

    async def _take_back(self, new: list[Replica]) -> None:
        """End those that have started, because others have not. They answer the requests that they have got already."""
        ends = {replica: self._drain(replica) for replica in new}
        await _finished(end for replica, end in ends.items() if not replica.load.running)

    def _new(self) -> Replica:
        taken = {replica.number for replica in self.replicas}
        replica = Replica(next(number for number in range(len(taken) + 1) if number not in taken))
        self.replicas.append(replica)
        self.replicas.sort(key=lambda replica: replica.number)
        return replica

    async def _start(self, replica: Replica, on_progress: Progress) -> None:
        replica.begin(self.now)
        engine = await self._source.start(replica.number, on_progress)
        self._enter(replica, engine)

    def _enter(self, replica: Replica, engine: EngineClient) -> None:
        replica.enter(engine, self.now)
        engine.on_lost = lambda error: self.lost(replica, engine, error)
        self._notify()

    def _begin_again(self, replica: Replica) -> None:
        wait = replica.delay(self.now)
        replica.start = self._in_background(self._restart(replica, wait))

    async def _restart(self, replica: Replica, wait: float) -> None:
        while True:
            await asyncio.sleep(wait)
            try:
                await self._start(replica, None)
                return
            except Exception as error:
                log.error("replica %d of %s did not start: %s", replica.number, self.name, error)
            wait = replica.delay(self.now)
            self._notify()

    def _least_wanted(self, count: int) -> list[Replica]:
        """Those that are given up first: without an engine, then with the least work, then the newest."""
        order = sorted(self.wanted, key=lambda r: (r.engine is not None, r.work, -r.number))
        return order[: max(count, 0)]

    def _drain(self, replica: Replica) -> asyncio.Task[None]:
        if replica.start is not None:
            replica.start.cancel()
        replica.state = DRAINING
        replica.end = self._in_background(self._end_when_idle(replica))
        return replica.end

    def _keep(self, replica: Replica) -> None:
        """Let one that is to end, and still answers, take requests again."""
        if replica.end is not None:
            replica.end.cancel()
        replica.state = READY
        self._notify()

    async def _end_when_idle(self, replica: Replica) -> None:
        if replica.start is not None:
            await _finished([replica.start])
            replica.state = DRAINING  # the start may have succeeded at the last moment
        await replica.load.idle.wait()
        if (engine := replica.engine) is not None:
            with contextlib.suppress(LqmfError):
                replica.stats = await engine.stats()
            replica.engine = None
            await self._close(engine)
        self._forget(replica)
        self._notify()

    def _forget(self, replica: Replica) -> None:
        if replica in self.replicas:
            self.replicas.remove(replica)
            self.gone = reduce(added, (replica.gone, replica.stats), self.gone)

    def _close_when_unused(self, replica: Replica, engine: EngineClient) -> None:
        """An endpoint that failed one request may still be answering others."""
        self._leaving.add(engine)
        load = replica.load

        async def close() -> None:
            await load.idle.wait()
            await self._close(engine)

        self._in_background(close())

    async def _close(self, engine: EngineClient) -> None:
        self._leaving.add(engine)
        await engine.close()
        self._leaving.discard(engine)

    def _notify(self) -> None:
        self._on_change()
        self.changed.set()

    def _in_background(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _finished(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    """Wait for tasks, whatever becomes of them. They go on if the wait is cancelled."""
    if found := [task for task in tasks if task is not None]:
        await asyncio.wait(found)


def check_last_wish(name: str, count: int, last: int) -> None:
    """Raises: ConflictError: another number of replicas was asked for last."""
    if count != last:
        raise ConflictError(
            f"the number of replicas of '{name}' was set to {last} while it was being set to {count}",
            hint="the last number counts; ask again if it should be another one",
        )


def _worth_trying_again(error: BaseException) -> bool:
    return isinstance(error, LqmfError) and not isinstance(error, UserInputError)

"""Programs that the page starts."""

from __future__ import annotations

import asyncio

from lqmf_runner.errors import UserInputError
from lqmf_runner.ui.jobs import Job, Jobs


async def test_two_run_at_once_also_of_those_that_are_started_together() -> None:
    jobs = Jobs()
    starts = [jobs.start(["mode=nothing"]) for _ in range(3)]
    job, other, refusal = await asyncio.gather(*starts, return_exceptions=True)
    assert isinstance(job, Job)
    assert isinstance(other, Job)
    assert isinstance(refusal, UserInputError)
    async with asyncio.timeout(60):
        for each in (job, other):
            while await each.ended(1) is None:
                pass
    last = await jobs.start(["mode=nothing"])
    await jobs.close()
    assert not last.running

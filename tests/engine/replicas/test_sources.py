from __future__ import annotations

import os

import pytest

from lqmf_runner.engine.replicas.sources import Workers, share_of_cores
from lqmf_runner.types import ModelSpec, Placement


def test_workers_on_one_machine_share_no_cores_while_there_are_enough():
    shares = [share_of_cores(range(8), 3, number) for number in range(3)]
    assert shares == [[0, 1], [2, 3], [4, 5]]
    assert [share_of_cores(range(2), 3, number) for number in range(3)] == [[0], [1], [0]]


@pytest.mark.parametrize(
    ("options", "placement", "expected"),
    [
        ({}, Placement(replicas=2), {"n_threads": 1, "cores": [5]}),
        ({}, Placement(replicas=1, max_replicas=4), {"n_threads": 1, "cores": [5]}),
        ({"n_threads": 3}, Placement(replicas=2), {"n_threads": 3}),  # told to
        ({}, Placement(kind="ray", replicas=2), {}),
    ],
)
async def test_what_a_worker_is_told_of_its_cores(options, placement, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5})
    told = []

    async def start(spec: ModelSpec, on_progress: object) -> None:
        told.append(spec.options)

    spec = ModelSpec(name="m", format="gguf", path="", options=options, placement=placement)
    await Workers(spec, start).start(1, None)
    assert told == [expected]

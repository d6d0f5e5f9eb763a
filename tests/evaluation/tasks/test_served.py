"""The same numbers in process and through our own server: a real model, a real server, the tasks that ship."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.types import ModelSpec
from tests.evaluation.tasks.test_run import ask, measure, rows
from tests.support.server.processes import MODEL, Program

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="needs llama-cpp-python and gguf",
)
LIMIT = 6
TOLERANCE = (
    0.02  # nats of a sum over an ending: requests that run together are not added up in the same order
)


async def test_the_same_numbers_in_process_and_through_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    program = Program(tmp_path)
    path = tmp_path / "quantized-models" / MODEL / "model.gguf"
    options = dataclasses.asdict(GgufBackend(n_ctx=512, n_threads=1))
    names = ["lqmf_everyday", "lqmf_opposites"]
    pairs = [
        (beginning, f" {ending}")
        for beginning, *endings in rows("lqmf_everyday.txt")[:3]
        for ending in endings
    ]
    questions = [
        (f"Word: {word}\nOpposite:", {"max_gen_toks": 8}) for word, _ in rows("lqmf_opposites.txt")[:4]
    ]
    with program.serve("backend.n_ctx=512", "backend.n_threads=1") as server:
        far = {"base_url": f"{server.url}/v1", "remote_model": MODEL, "max_slots": 16}
        found = []
        for spec in (
            ModelSpec(name=MODEL, format="gguf", path=str(path), options=options),
            ModelSpec(name=MODEL, format="openai", path="", options=far),
        ):
            async with await load_engine(spec) as client:
                found.append(
                    (
                        await ask(client, "loglikelihood", *pairs),
                        await ask(client, "loglikelihood_rolling", ("A text of some length.",)),
                        await ask(client, "generate_until", *questions),
                        await measure(client, names, LIMIT),
                    )
                )
    (scores, rolling, texts, tasks), (far_scores, far_rolling, far_texts, far_tasks) = found
    assert [value for value, _ in far_scores] == pytest.approx([value for value, _ in scores], abs=TOLERANCE)
    assert [greedy for _, greedy in far_scores] == [greedy for _, greedy in scores]
    assert far_rolling == pytest.approx(rolling, abs=TOLERANCE)
    assert far_texts == texts
    assert any(texts)
    assert tasks.keys() == far_tasks.keys() == set(names)
    for name in names:
        assert far_tasks[name] == pytest.approx(tasks[name])
        assert tasks[name]["n"] == LIMIT

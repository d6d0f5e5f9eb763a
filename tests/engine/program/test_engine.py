"""A model behind a program that is started for it; the program is a real process that stands for vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.errors import EngineLostError, LqmfError, MissingDependencyError, RemoteEngineError
from lqmf_runner.formats.sglang import SglangBackend
from lqmf_runner.formats.vllm import VllmBackend
from lqmf_runner.types import GenerationRequest, Message, ModelSpec

from ...support.processes import command, wait_until_gone

STAND_IN = [sys.executable, "-m", "tests.support.engine.program", "serve"]


def spec(folder: Path, **options: Any) -> ModelSpec:
    backend = VllmBackend(**{"command": STAND_IN, "load_timeout_s": 30.0, **options})
    return ModelSpec(name="m", format="vllm", path=str(folder), options=dataclasses.asdict(backend))


def started(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "started.json").read_text()))


def ask(text: str) -> GenerationRequest:
    return GenerationRequest(messages=[Message(role="user", content=text)])


async def test_it_is_started_asked_measured_and_ended(tmp_path: Path) -> None:
    engine = await load_engine(spec(tmp_path, n_ctx=2048, max_slots=8, flags={"tensor_parallel_size": 2}))
    there = started(tmp_path)
    try:
        assert (await engine.complete(ask("hello"))).text == "you said hello"
        assert (engine.info.format, engine.info.max_slots) == ("vllm", 8)
        assert engine.info.load_time_s > 0
        own = psutil.Process(there["program"]).memory_info().rss / 1e6
        assert (await engine.memory()).rss_mb > own
        given = " ".join(there["arguments"])
        assert "--max-model-len 2048 --max-num-seqs 8 --tensor-parallel-size 2" in given
        assert "--host 127.0.0.1" in given
        assert "--served-model-name m" in given
    finally:
        await engine.close()
    wait_until_gone(there["program"], there["child"])
    await engine.close()


async def test_a_key_in_a_file_is_on_no_command_line_and_goes_with_the_program(tmp_path: Path) -> None:
    # The stand-in takes the folder as its second word, where SGLang has `--model-path`.
    backend = SglangBackend(command=[*STAND_IN, str(tmp_path)], load_timeout_s=30.0)
    options = dataclasses.asdict(backend)
    engine = await load_engine(ModelSpec(name="m", format="sglang", path=str(tmp_path), options=options))
    there = started(tmp_path)
    file = Path(there["arguments"][there["arguments"].index("--config") + 1])
    try:
        assert (await engine.complete(ask("hello"))).text == "you said hello"
        key = file.read_text().split()[1]  # noqa: ASYNC240
        family = psutil.Process().children(recursive=True)
        assert len(family) >= 3
        assert not [each for each in family if key in " ".join(command(each))]
    finally:
        await engine.close()
    wait_until_gone(there["program"], there["child"])
    assert not file.exists()  # noqa: ASYNC240


async def test_a_program_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"vLLM is not installed.*'no-such-vllm'") as error:
        await load_engine(spec(tmp_path, command=["no-such-vllm", "serve"]))
    assert "pip install vllm" in (error.value.hint or "")
    backend = SglangBackend(command=[sys.executable, "-m", "no_such_sglang"])
    other = ModelSpec(name="m", format="sglang", path=str(tmp_path), options=dataclasses.asdict(backend))
    with pytest.raises(MissingDependencyError, match=r"SGLang is not installed: .*No module named"):
        await load_engine(other)


async def test_one_that_ends_while_it_loads_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineLostError, match="exit code 1, it did not load: CUDA out of memory"):
        await load_engine(spec(tmp_path, flags={"fail": True}))


async def test_a_loss_is_noticed(tmp_path: Path) -> None:
    engine = await load_engine(spec(tmp_path))
    lost: asyncio.Future[LqmfError] = asyncio.get_running_loop().create_future()
    engine.on_lost = lost.set_result
    there = started(tmp_path)
    try:
        os.kill(there["program"], signal.SIGKILL)
        assert "exit code 137" in str(await asyncio.wait_for(lost, 20))
        with pytest.raises(RemoteEngineError):
            await engine.complete(ask("hello"))
    finally:
        await engine.close()
    wait_until_gone(there["child"])


def test_it_does_not_outlive_its_owner(tmp_path: Path) -> None:
    owner = textwrap.dedent(
        f"""
        import sys, time
        from lqmf_runner.engine.program.process import KeptProgram
        KeptProgram({STAND_IN!r} + [{str(tmp_path)!r}, "--port", "0"], {{"VLLM_API_KEY": "k"}})
        time.sleep(600)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", owner])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "started.json").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            os.sched_yield()
    finally:
        process.kill()
        process.wait()
    there = started(tmp_path)
    wait_until_gone(there["program"], there["child"])


async def test_thoughts_come_apart_by_the_chat_template_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% if add_generation_prompt %}<think>{% endif %}")
    engine = await load_engine(spec(tmp_path))
    try:
        assert engine.info.thinks
        answer = await engine.complete(ask("</think>hello"))
    finally:
        await engine.close()
    assert (answer.reasoning, answer.text) == ("you said ", "hello")

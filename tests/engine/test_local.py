"""The worker process as such: it dies alone, leaves nothing behind, and gives everything back."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import (
    EngineLostError,
    InvalidRequestError,
    MissingDependencyError,
    ModelUnusableError,
    UserInputError,
)
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams

from ..support.models.tiny import make_checkpoint, make_gguf

ROOT = Path(__file__).resolve().parents[2]
GONE_S = 20


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def gguf_spec(path: Path, **options: object) -> ModelSpec:
    return ModelSpec(
        name="tiny", format="gguf", path=str(path), options={"max_slots": 4, "n_threads": 1, **options}
    )


def request(n: int | None, prompt: str = "once") -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, sampling=SamplingParams(max_tokens=n, temperature=0, ignore_eos=True)
    )


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def gone(pid: int, seconds: float = GONE_S) -> bool:
    """Whether the process ends within reasonable time (a zombie has ended)."""
    try:
        process = psutil.Process(pid)
        process.wait(seconds)
    except psutil.TimeoutExpired:
        if process.status() != psutil.STATUS_ZOMBIE:
            process.kill()
            return False
    except psutil.NoSuchProcess:
        pass
    return True


async def test_a_killed_worker_fails_its_requests_at_once_and_no_other_engine_notices(
    gguf_file: Path,
) -> None:
    async with (
        await LocalEngine.start(gguf_spec(gguf_file)) as engine,
        await LocalEngine.start(gguf_spec(gguf_file)) as other,
    ):
        neighbour = other.generate(request(400, "neighbour"))
        await anext(neighbour)
        streams = [engine.generate(request(None, f"stream {i}")) for i in range(6)]  # two of them wait
        for stream in streams[:4]:
            await anext(stream)
        readers = [asyncio.create_task(_drain(stream)) for stream in streams]
        await asyncio.sleep(0)  # the last two are sent
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            results = await asyncio.gather(*readers, return_exceptions=True)
        for result in results:
            assert isinstance(result, EngineLostError)
            assert "tiny" in result.message
            assert "killed" in result.message
        assert not engine.alive
        with pytest.raises(EngineLostError):
            await engine.complete(request(1))
        with pytest.raises(EngineLostError):
            await engine.stats()
        assert sum([len(chunk.token_ids) async for chunk in neighbour]) == 399

        async with await LocalEngine.start(gguf_spec(gguf_file)) as again:
            assert (await again.complete(request(3))).usage.completion_tokens == 3


async def _drain(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


async def test_who_asks_to_be_told_of_a_loss_after_it_is_told_too(gguf_file: Path) -> None:
    """A worker may die between its load and the moment at which somebody takes charge of it."""
    async with await LocalEngine.start(gguf_spec(gguf_file)) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            with pytest.raises(EngineLostError, match="killed"):
                await engine.stats()
            told = asyncio.get_running_loop().create_future()
            engine.on_lost = told.set_result
            assert "killed" in (await told).message


async def test_a_worker_killed_while_it_loads_is_a_clear_error(gguf_file: Path) -> None:
    before = children()
    start = asyncio.create_task(LocalEngine.start(gguf_spec(gguf_file)))
    await asyncio.sleep(0)  # it has started the process and waits for the load
    os.kill((children() - before).pop(), signal.SIGKILL)
    with pytest.raises(EngineLostError, match="killed"):
        await start
    assert children() <= before


HANGING_STEP = """
import os, sys, threading
if "lqmf_runner.engine.worker" in sys.orig_argv:
    from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppRunner
    step = LlamaCppRunner.step
    def hang(self, batch):
        if os.path.exists(os.environ["HANG"]):
            threading.Event().wait()
        return step(self, batch)
    LlamaCppRunner.step = hang
"""
"""A `sitecustomize` of a worker, whose steps hang while there is a file at HANG."""


async def test_a_worker_whose_step_hangs_is_lost_if_that_is_asked_for(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_STEP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("HANG", str(tmp_path / "hang"))
    before = children()
    async with await LocalEngine.start(gguf_spec(gguf_file, step_timeout_s=1.0)) as engine:
        assert (await engine.complete(request(50))).usage.completion_tokens == 50
        stream = engine.generate(request(None))
        await anext(stream)
        (tmp_path / "hang").touch()
        with pytest.raises(EngineLostError, match=r"took longer than backend\.step_timeout_s"):
            await _drain(stream)
        assert not engine.alive
    assert children() <= before


HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Hidden())
"""
"""A `sitecustomize` of a worker that has no torch."""


async def test_a_worker_without_torch_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    folder = make_checkpoint(tmp_path / "model")
    with pytest.raises(MissingDependencyError, match="torch") as caught:
        await load_engine(ModelSpec(name="m", format="transformers", path=str(folder), options={}))
    assert "[transformers]" in str(caught.value.hint)


async def test_a_load_that_is_given_up_leaves_no_process(gguf_file: Path) -> None:
    before = children()
    start = asyncio.create_task(LocalEngine.start(gguf_spec(gguf_file)))
    await asyncio.sleep(0)
    assert children() - before
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert children() <= before
    with pytest.raises(EngineLostError, match="did not load within"):
        await LocalEngine.start(gguf_spec(gguf_file, load_timeout_s=0.01))
    assert children() <= before


async def test_close_leaves_no_process_and_fails_what_runs(gguf_file: Path) -> None:
    before = children()
    engine = await LocalEngine.start(gguf_spec(gguf_file))
    stream = engine.generate(request(None))
    await anext(stream)
    assert engine.pid in children()
    async with asyncio.timeout(4):  # the worker ends by itself, before it would be killed
        await engine.close()
    assert children() <= before
    assert not psutil.pid_exists(engine.pid)
    with pytest.raises(EngineLostError, match="unloaded"):
        async for _ in stream:
            pass
    with pytest.raises(EngineLostError, match="unloaded"):
        await engine.tokenize("a")
    await engine.close()
    assert (await engine.memory()).rss_mb == 0


@pytest.mark.parametrize("doing", ["idle", "with answers unread"])
async def test_the_worker_ends_when_its_parent_is_killed(gguf_file: Path, doing: str) -> None:
    parent = start_parent(gguf_file, unread=doing != "idle")
    try:
        worker = read_pid(parent)
        assert psutil.pid_exists(worker)
        parent.kill()
        assert await asyncio.to_thread(gone, worker)
    finally:
        parent.kill()
        parent.communicate()


async def test_ctrl_c_in_the_terminal_does_not_reach_into_the_worker(gguf_file: Path) -> None:
    parent = start_parent(gguf_file, "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    try:
        worker = read_pid(parent)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdin is not None
        assert parent.stdout is not None
        print("go on", file=parent.stdin, flush=True)
        assert parent.stdout.readline() == "3 tokens\n"
        assert psutil.pid_exists(worker)
    finally:
        parent.kill()
        parent.communicate()
    assert await asyncio.to_thread(gone, worker)


def start_parent(path: Path, setup: str = "", *, unread: bool = False) -> subprocess.Popen[str]:
    """A process of its own group that loads a model, prints the worker's id, and answers once for each line.

    With `unread`, it stops reading from the worker in the middle of an answer before it prints.
    """
    program = f"""
import asyncio, select, signal, sys
from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams
{setup}
async def main():
    spec = ModelSpec(name="tiny", format="gguf", path={str(path)!r}, options={{"max_slots": 1}})
    async with await LocalEngine.start(spec) as engine:
        if {unread}:
            stream = engine.generate(GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=None)))
            await anext(stream)
            select.select([engine.connection.transport.get_extra_info("socket").fileno()], [], [])
            print(engine.pid, flush=True)
            signal.pause()
        print(engine.pid, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            sampling = SamplingParams(max_tokens=3, ignore_eos=True)
            answer = await engine.complete(GenerationRequest(prompt="a", sampling=sampling))
            print(answer.usage.completion_tokens, "tokens", flush=True)
asyncio.run(main())
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, text=True, process_group=0,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def read_pid(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


async def test_a_truncated_gguf_is_refused(gguf_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    shutil.copy(gguf_file, cut)
    os.truncate(cut, 100_000)
    await assert_unusable(gguf_spec(cut))


async def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    await assert_unusable(gguf_spec(tmp_path / "nothing.gguf"))


async def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    await assert_unusable(ModelSpec(name="tiny", format="transformers", path=str(cut), options={}))


async def test_a_format_without_a_runner_is_refused(gguf_file: Path) -> None:
    before = children()
    with pytest.raises(UserInputError, match="no runner for format 'exl2'") as caught:
        await load_engine(ModelSpec(name="tiny", format="exl2", path=str(gguf_file)))
    assert "gguf" in caught.value.hint
    assert children() <= before


async def assert_unusable(spec: ModelSpec) -> None:
    before = children()
    with pytest.raises(ModelUnusableError) as caught:
        await load_engine(spec)
    assert "tiny" in caught.value.message or Path(spec.path).name in caught.value.message
    assert "Traceback" not in caught.value.message
    assert str(Path(spec.path).parent) not in caught.value.message, (
        "messages name models, not paths of the host"
    )
    assert caught.value.hint
    assert children() <= before


async def test_a_value_that_cannot_be_sent_is_a_clear_error_and_the_engine_goes_on(gguf_file: Path) -> None:
    bad = [
        GenerationRequest(prompt="a", sampling=SamplingParams(seed=2**64)),
        GenerationRequest(prompt="half an emoji: \ud83c"),
        GenerationRequest(prompt_tokens=(2**70,)),
        GenerationRequest(prompt="a", sampling=SamplingParams(temperature="hot")),  # type: ignore[arg-type]
        GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=1.5)),  # type: ignore[arg-type]
        GenerationRequest(prompt="a", sampling=SamplingParams(logit_bias={"5": 1.0})),  # type: ignore[dict-item]
    ]
    async with await LocalEngine.start(gguf_spec(gguf_file)) as engine, asyncio.timeout(30):
        for request_ in bad:
            with pytest.raises(InvalidRequestError):
                await engine.complete(request_)
        assert (await engine.complete(request(2))).usage.completion_tokens == 2


async def test_progress_is_told_while_loading(gguf_file: Path) -> None:
    shares: list[float] = []
    async with await load_engine(gguf_spec(gguf_file), shares.append):
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


async def test_memory_is_back_after_every_close(gguf_file: Path) -> None:
    def used() -> int:
        gc.collect()
        me = psutil.Process()
        return sum(p.memory_info().rss for p in [me, *me.children(recursive=True)])

    async def once() -> None:
        async with await LocalEngine.start(gguf_spec(gguf_file)) as engine:
            await asyncio.gather(*(engine.complete(request(20, f"memory {i}")) for i in range(4)))
            assert (await engine.memory()).rss_mb > 10

    before = used()
    for _ in range(10):
        await once()
        assert used() - before < 20e6


def test_the_front_process_imports_no_engine(gguf_file: Path) -> None:
    program = f"""
import asyncio, sys, psutil
from lqmf_runner.engine import load_engine
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams
async def main():
    async with await load_engine(ModelSpec(name="t", format="gguf", path={str(gguf_file)!r})) as engine:
        await engine.complete(GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=3, logprobs=2)))
        await engine.score("abc")
        await engine.memory()
        print(psutil.Process().memory_info().rss)
        print(sorted({{"torch", "transformers", "llama_cpp", "mlflow", "tokenizers", "pandas"}} & set(sys.modules)))
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, timeout=120, check=True
    )
    rss, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert int(rss) < 150e6

"""Tasks of lm-evaluation-harness over a model whose probabilities the test works out by itself."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.engine.client import EngineClient
from lqmf_runner.errors import EngineError, MissingDependencyError, UserInputError
from lqmf_runner.evaluation.tasks import run as tasks_module
from lqmf_runner.evaluation.tasks.run import EngineLM, Tasks
from lqmf_runner.types import ModelSpec, Score
from tests.support.engine.scripted import INFO
from tests.support.engine.toy import N_VOCAB, ToyHandler, ToyModel, best, logprob

SETS = Path(tasks_module.__file__).parent / "sets"


def rows(name: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")] for line in (SETS / name).read_text().splitlines()]


async def measure(
    client: EngineClient, names: Sequence[str], limit: int | None = None
) -> dict[str, dict[str, float]]:
    tasks = await asyncio.to_thread(Tasks, names, limit)
    return await tasks.measure(client, on_batch=lambda *_: None, on_answer=lambda _: None)


async def ask(client: EngineClient, method: str, *arguments: tuple[Any, ...]) -> list[Any]:
    model = EngineLM(client, asyncio.get_running_loop())
    requests = [SimpleNamespace(args=args) for args in arguments]
    return await asyncio.to_thread(getattr(model, method), requests)


def tokens_of(text: str) -> list[int]:
    """The toy tokenizer, written again: characters, but "ab" is one token."""
    return [2 if piece == "\0" else ord(piece) for piece in text.replace("ab", "\0")]


def chain(before: int, tokens: list[int]) -> float:
    return math.fsum(logprob(a, b) for a, b in zip([before, *tokens], tokens, strict=False))


def test_the_tasks_that_ship_are_of_use() -> None:
    everyday = rows("lqmf_everyday.txt")
    assert len({row[0] for row in everyday}) == len(everyday) >= 40
    assert all(len(set(row[1:])) == 4 for row in everyday)
    opposites = rows("lqmf_opposites.txt")
    assert len({row[0] for row in opposites}) == len(opposites) >= 20
    assert all(len(row) == 2 and row[0] != row[1] for row in opposites)


async def test_accuracy_is_that_of_an_independent_count() -> None:
    found = await measure(ToyModel(), ["lqmf_everyday", "lqmf_opposites"])
    right = right_by_length = 0
    for beginning, *endings in rows("lqmf_everyday.txt"):
        start = tokens_of(beginning)
        scores = [chain(start[-1], tokens_of(f" {ending}")) for ending in endings]
        by_length = [score / len(ending) for score, ending in zip(scores, endings, strict=True)]
        right += scores.index(max(scores)) == 0
        right_by_length += by_length.index(max(by_length)) == 0
    got = found["lqmf_everyday"]
    assert got["acc"] == pytest.approx(right / 44)
    assert got["acc_norm"] == pytest.approx(right_by_length / 44)
    p = right / 44
    assert got["acc_stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 43))
    assert got["n"] == 44
    assert found["lqmf_opposites"] == {"exact_match": 0.0, "exact_match_stderr": 0.0, "n": 24}


async def test_generation_is_held_against_the_right_answer() -> None:
    class Knows(ToyModel):
        """Knows the opposites of the words that have an even number of letters."""

        async def stream(self, request, *, whole=False):  # type: ignore[no-untyped-def]
            self.requests.append(request)
            word = request.prompt.rsplit("Word: ", 1)[-1].split("\n")[0]
            text = dict(rows("lqmf_opposites.txt"))[word] if len(word) % 2 == 0 else "hm"
            (first,), last = [chunks async for chunks in super().stream(request)]
            yield [msgspec.structs.replace(first, text=f" {text.upper()}.")]
            yield last

    client = Knows()
    found = await measure(client, ["lqmf_opposites"])
    even = sum(len(word) % 2 == 0 for word, _ in rows("lqmf_opposites.txt"))
    assert found["lqmf_opposites"]["exact_match"] == pytest.approx(even / 24)
    sampling = client.requests[0].sampling
    assert (sampling.temperature, sampling.stop, sampling.max_tokens) == (0.0, ("\n",), 8)


async def test_the_same_numbers_through_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    names, limit = ["lqmf_everyday", "lqmf_opposites"], 6
    here = await measure(ToyModel(), names, limit)
    with ThreadingHTTPServer(("127.0.0.1", 0), ToyHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        spec = ModelSpec(name="far", format="openai", path="", options={"base_url": url, "max_slots": 4})
        try:
            async with await load_engine(spec) as client:
                there = await measure(client, names, limit)
                pair = [("Rain ", "falls"), ("", "cab")]
                assert await ask(client, "loglikelihood", *pair) == [
                    (pytest.approx(value), greedy)
                    for value, greedy in await ask(ToyModel(), "loglikelihood", *pair)
                ]
        finally:
            server.shutdown()
            thread.join()
    assert here.keys() == there.keys()
    for name in names:
        assert there[name] == pytest.approx(here[name])


async def test_a_continuation_is_scored_after_its_context() -> None:
    (plain,) = await ask(ToyModel(), "loglikelihood", ("xy", "z"))
    assert plain[0] == pytest.approx(logprob(ord("y"), ord("z")))
    # A space at the end of the context belongs to the continuation, a token may hold both.
    (spaced,) = await ask(ToyModel(), "loglikelihood", ("xy ", "z"))
    assert spaced[0] == pytest.approx(chain(ord("y"), [ord(" "), ord("z")]))
    # "ab" is one token across the border: it is scored as a whole.
    (merged,) = await ask(ToyModel(), "loglikelihood", ("xa", "b"))
    assert merged[0] == pytest.approx(logprob(ord("x"), 2))
    (empty,) = await ask(ToyModel(), "loglikelihood", ("", "zz"))
    assert empty[0] == pytest.approx(chain(1, [ord("z")] * 2))  # 1 is what the model has in front
    likely = chr(next(t for t in range(32, 32 + N_VOCAB) if t % N_VOCAB == best(ord("y"))))
    assert [greedy for _, greedy in await ask(ToyModel(), "loglikelihood", ("y", likely), ("y", "~"))] == [
        True,
        False,
    ]


async def test_a_model_without_a_first_token_scores_after_a_line_feed() -> None:
    class Bare(ToyModel):
        async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            return await super().tokenize(text)

    (got,) = await ask(Bare(), "loglikelihood", ("", "z"))
    assert got[0] == pytest.approx(logprob(10, ord("z")))


async def test_contexts_that_are_too_long_lose_their_beginning() -> None:
    client = ToyModel()
    client.info = msgspec.structs.replace(INFO, n_ctx=6)
    seen: list[list[int]] = []
    score = client.score

    async def watch(tokens: Any) -> Score:
        seen.append(list(tokens))
        return await score(tokens)

    client.score = watch  # type: ignore[method-assign]
    (got,) = await ask(client, "loglikelihood", ("0123456789", "xyz"))
    assert seen == [list(map(ord, "789xyz"))]
    assert got[0] == pytest.approx(chain(ord("9"), list(map(ord, "xyz"))))


@pytest.mark.parametrize("n_ctx", [7, 8, 500])
async def test_rolling_scores_every_token_once(n_ctx: int) -> None:
    client = ToyModel()
    client.info = msgspec.structs.replace(INFO, n_ctx=n_ctx)
    text = "the cab was late, and so were we"
    (got,) = await ask(client, "loglikelihood_rolling", (text,))
    assert got == pytest.approx(chain(1, tokens_of(text)))  # each token depends on the one before it only


async def test_answers_keep_the_order_of_the_requests() -> None:
    class Uneven(ToyModel):
        async def score(self, tokens: Any) -> Score:
            for _ in range(tokens[-1] % 7):  # others overtake it
                await asyncio.sleep(0)
            return await super().score(tokens)

    pairs = [("x", chr(97 + n)) for n in range(20)]
    got = await ask(Uneven(), "loglikelihood", *pairs)
    assert [value for value, _ in got] == [pytest.approx(logprob(ord("x"), ord(c))) for _, c in pairs]


async def test_nan_is_named() -> None:
    class Broken(ToyModel):
        async def score(self, tokens: Any) -> Score:
            found = await super().score(tokens)
            return msgspec.structs.replace(found, logprobs=(None, *[math.nan] * (len(tokens) - 1)))

    with pytest.raises(EngineError, match="NaN"):
        await measure(Broken(), ["lqmf_everyday"], 2)


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        (SETS / "lqmf_opposites.yaml").read_text().replace("lqmf_opposites", "mine")
    )
    (tmp_path / "read.py").write_text((SETS / "read.py").read_text())
    (tmp_path / "lqmf_opposites.txt").write_text("hot | cold\nup | down\n")
    (tmp_path / "lqmf_everyday.txt").write_text("")
    found = asyncio.run(measure(ToyModel(), [str(tmp_path / "mine.yaml")]))
    assert found["mine"]["n"] == 2


def test_a_data_set_that_cannot_be_fetched_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "hub_status", lambda _: "no route")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    (tmp_path / "far.yaml").write_text(
        "task: far\ndataset_path: nobody/nothing\noutput_type: generate_until\n"
    )
    with pytest.raises(UserInputError, match=r"data set of task .*far\.yaml' cannot be fetched") as caught:
        Tasks([str(tmp_path / "far.yaml")])
    assert "lqmf_everyday" in caught.value.hint


def test_a_task_of_the_harness_is_found_without_reading_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading its 14,000 files takes ten seconds, before anything is said of a data set that cannot be fetched."""
    from lm_eval.tasks._index import TaskIndex

    all_files = staticmethod(lambda root: pytest.fail(f"all of {root} is read"))
    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", all_files)
    monkeypatch.setattr(tasks_module, "hub_status", lambda _: "no route")
    with contextlib.suppress(UserInputError):  # its data set may be in the cache of this machine, or not
        Tasks(["arc_easy"])


def test_tasks_that_are_not_there_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "hub_status", lambda _: 200)
    with pytest.raises(UserInputError, match=r"no task file nowhere\.yaml"):
        Tasks(["nowhere.yaml"])
    (tmp_path / "bad.yaml").write_text("task: [\n")
    with pytest.raises(UserInputError, match="cannot be loaded"):
        Tasks([str(tmp_path / "bad.yaml")])


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingDependencyError) as caught:
        Tasks(["lqmf_everyday"])
    assert "[eval]" in caught.value.hint

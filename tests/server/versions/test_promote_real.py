"""The program itself with versions: a promote under load, on real workers, tiny models and MLflow on SQLite."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lqmf_runner.config import TrackingConfig
from lqmf_runner.models.registered import Weights
from lqmf_runner.models.version import content_version
from lqmf_runner.tracking.mlflow_connection import connected, experiment_id
from lqmf_runner.tracking.model_registry import apply_change, list_versions, register_served
from lqmf_runner.tracking.store_lock import locked_store
from lqmf_runner.tracking.versions import AliasChange

from ...support.models.tiny import make_gguf

BODY = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, "ignore_eos": True}
SLOW_S = 180  # a promote and a rollback start two processes that import MLflow, on cores that the streams are using
SETTINGS = [
    "server.port=0",
    "models_dir=models",
    "backend.n_threads=1",
    "backend.n_ctx=256",
    "server.ui=false",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the versions x@1 (the champion) and x@2, and the store that knows them."""
    folder = tmp_path_factory.mktemp("promote")
    (folder / "models").mkdir()
    config = tracking(folder)
    with locked_store(config, folder), connected(config) as client:
        run = client.create_run(experiment_id(client, config))
        for number in (1, 2):
            path = make_gguf(folder / "models" / f"x-{number}.gguf", seed=number)
            weights = Weights(name="x", digest=content_version(path), format="gguf", path=str(path))
            register_served(client, run.info.run_id, weights)
    apply_change(config, AliasChange(name="x", alias="champion", number=1))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lqmf_runner", "serve", "x@champion", *SETTINGS],
        cwd=folder, stdout=subprocess.PIPE, text=True, env=environment(folder),
    )  # fmt: skip
    assert process.stdout is not None
    yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def tracking(folder: Path) -> TrackingConfig:
    return TrackingConfig(
        uri=f"sqlite:///{folder}/mlruns/mlflow.db", artifacts=str(folder / "mlruns/artifacts")
    )


async def test_a_promote_from_the_console_and_a_rollback_under_16_streams_drop_none(
    server: str, folder: Path
):
    stop = asyncio.Event()
    answers: list[tuple[str, str]] = []

    async def user(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            async with client.stream(
                "POST", "/v1/chat/completions", json={**BODY, "stream": True}
            ) as response:
                assert response.status_code == 200, await response.aread()
                text = "".join([part async for part in response.aiter_text()])
                answers.append((response.headers["x-model-version"], text))

    async with httpx.AsyncClient(base_url=server, timeout=SLOW_S) as client:
        users = [asyncio.create_task(user(client)) for _ in range(16)]
        words = ("console", "promote version 2 of x", "console.confirm=false")
        promoted = await asyncio.to_thread(lqmf, folder, *words)
        assert promoted.returncode == 0, promoted.stderr
        assert (await client.get("/versions")).json()["names"] == {"x": {"x@2": 1.0}}
        back = await client.post("/models/x/rollback")
        assert back.json()["now"] == {"x@1": 1.0}, back.text
        stop.set()
        await asyncio.gather(*users)
        assert (await client.post("/v1/chat/completions", json={**BODY, "model": "x@2"})).status_code == 200
        unknown = await client.post("/v1/chat/completions", json={**BODY, "model": "x@nobody"})
        assert unknown.status_code == 404
        assert "no alias nobody" in unknown.json()["error"]["message"]
    assert {label for label, _ in answers} == {"x@1", "x@2"}
    assert all(
        text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in text for _, text in answers
    )
    texts = {label: re.findall(r'"system_fingerprint":"([^"]+)"', text) for label, text in answers}
    assert all(set(found) == {label} for label, found in texts.items())
    (champion,) = [v.number for v in list_versions(tracking(folder)) if "champion" in v.aliases]
    assert champion == 1


async def test_a_split_is_judged_by_what_was_served_and_each_answer_says_its_version(
    server: str, folder: Path
):
    """A version whose files are gone by the time it is promoted is refused, although it is loaded."""
    async with httpx.AsyncClient(base_url=server, timeout=60) as client:
        split = await client.post("/models/x/split", json={"split": {"champion": 50, "2": 50}})
        assert split.json()["now"] == {"x@1": 0.5, "x@2": 0.5}
        served, tokens = Counter[str](), Counter[str]()
        body = {**BODY, "max_tokens": 2}

        async def ask(number: int) -> None:
            path, asked = (
                ("/v1/chat/completions", body | {"stream": number % 2 == 0}),
                ("/models/x/chat", {"message": "hi", "max_tokens": 2}),
            )[number % 3 == 0]
            answer = await client.post(path, json=asked)
            assert answer.status_code == 200, answer.text
            label = answer.headers["x-model-version"]
            assert f'"{label}"' in answer.text
            served[label] += 1
            tokens[label] += 2 if path.startswith("/v1") else answer.json()["tokens_generated"]

        for start in range(0, 120, 8):
            await asyncio.gather(*map(ask, range(start, start + 8)))
        assert min(served.values()) > 30, served
        counted = (await client.get("/metrics")).text
        for label, n in served.items():
            assert f'lqmf_requests_total{{model="{label}",outcome="ok"}} {n}.0' in counted
            assert f'lqmf_time_to_first_token_seconds_count{{model="{label}"}} {n}.0' in counted
        (session,) = found(folder, "outputs/*/*/served.jsonl")
        judged = lqmf(folder, "compare", "--served", "x", f"runs=[{session.parent}]")
        assert judged.returncode == 0, judged.stderr
        assert "Verdict: " in judged.stdout
        for label, n in served.items():
            assert f"{label} had {n} requests: {n} ok; answers ended by length" in " ".join(
                judged.stdout.split()
            )
        (report,) = found(folder, "outputs/*/*-compare/results.json")
        figures = json.loads(report.read_text())["models"]
        assert {m["name"]: m["loads"][0]["output_tokens"] for m in figures} == {**tokens}
        (folder / "models" / "x-2.gguf").rename(folder / "away")
        try:
            gone = await client.post("/models/x/promote", json={"version": 2})
            assert (gone.status_code, "x@2 cannot be used: its files are gone" in gone.text) == (404, True)
            listed = json.loads(lqmf(folder, "versions", "x@2", "--format", "json").stdout)
            assert listed[0]["problem"] == "its files are gone"
        finally:
            (folder / "away").rename(folder / "models" / "x-2.gguf")
        assert (await client.get("/versions")).json()["names"] == {"x": {"x@1": 0.5, "x@2": 0.5}}
    assert [v.number for v in list_versions(tracking(folder)) if "champion" in v.aliases] == [1]


def found(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def lqmf(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = environment(folder) | {"LQMF_MODELS": "models", "COLUMNS": "300"}
    return subprocess.run(
        [sys.executable, "-m", "lqmf_runner", *words], cwd=folder, env=env, capture_output=True, text=True
    )


def environment(folder: Path) -> dict[str, str]:
    """With records of its own, so that no server of another test is found."""
    return {**os.environ, "PYTHONPATH": str(Path.cwd()), "LQMF_RUNTIME_DIR": str(folder / "records")}


def test_the_program_lists_names_and_refuses_versions(folder: Path):
    listed = json.loads(lqmf(folder, "versions", "--format", "json").stdout)
    assert [(v["version"], "champion" in v["aliases"], v["problem"]) for v in listed] == [
        ("x@2", False, ""),
        ("x@1", True, ""),
    ]
    understood = json.loads(lqmf(folder, "console", "promote version 2 of x", "console.dry_run=true").stdout)
    assert understood["arguments"] == {"model": "x", "version": "2"}  # only the registry has this name
    twice = lqmf(folder, "mode=compare", "models=[x@champion,x@1]")
    assert (twice.returncode, twice.stderr.splitlines()[0]) == (2, "error: x@champion and x@1 are both x@1")

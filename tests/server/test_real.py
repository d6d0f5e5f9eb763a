"""The program itself, serving tiny models it finds in a folder, with OpenAI's own client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from ..support.models.tiny import make_gguf

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Its URL and its process; the models are "one" and "two"."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "models").mkdir()
    for seed, name in enumerate(("one", "two")):
        make_gguf(folder / "models" / f"{name}.gguf", seed=seed)
    (folder / "secret.gguf").write_bytes((folder / "models" / "one.gguf").read_bytes())
    (folder / "models" / "link.gguf").symlink_to(folder / "secret.gguf")
    settings = [
        "server.port=0",
        "models_dir=models",
        "tracking=none",
        "backend.n_threads=1",
        "backend.n_ctx=256",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "lqmf_runner", "mode=serve", "model=null", *settings],
        cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert process.stdout is not None
    announcement = process.stdout.readline()
    url = next(word for word in announcement.split() if word.startswith("http://"))
    yield url, psutil.Process(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture
def client(server: tuple[str, psutil.Process]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models_of_the_folder_are_listed_and_links_out_of_it_are_not(client: openai.OpenAI):
    names = {model.id for model in client.models.list()}
    assert {"one", "two"} <= names
    assert "link" not in names
    with pytest.raises(openai.NotFoundError, match="no model 'link'"):
        client.chat.completions.create(model="link", messages=MESSAGES)


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI):
    options: Any = {"model": "one", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**options)
    pieces = list(
        client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert pieces[-1].usage.prompt_tokens_details.cached_tokens > 0


def test_a_seed_repeats_and_choices_differ(client: openai.OpenAI):
    options: Any = {"model": "one", "messages": MESSAGES, "max_tokens": 8, "n": 2, "seed": 7}
    first, again = (client.chat.completions.create(**options) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts[0] != texts[1]


def test_a_schema_is_kept(client: openai.OpenAI):
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="one",
        messages=MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "")["a"] in (1, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_400_with_both_numbers(client: openai.OpenAI, stream: bool):
    with pytest.raises(
        openai.BadRequestError, match=r"\d+ tokens exceeds the available context size of 256"
    ) as raised:
        client.chat.completions.create(
            model="one", messages=[{"role": "user", "content": "x" * 400}], stream=stream
        )
    assert raised.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
        {"structured_outputs": {"regex": "(" * 50}},
        {"structured_outputs": {"grammar": "start: nothing"}},
        {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": {"bos_token": "x"}},
        {"logit_bias": {"999999": 1}},
    ],
)
def test_what_the_engine_refuses_is_400(server: tuple[str, psutil.Process], asked: dict[str, Any]):
    body = {"model": "one", "messages": MESSAGES, "max_tokens": 2} | asked
    response = httpx.post(f"{server[0]}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 400, response.text
    assert "/" not in response.json()["error"]["message"]


def test_echoed_scores_are_those_of_generation(server: tuple[str, psutil.Process], client: openai.OpenAI):
    (letter,) = httpx.post(f"{server[0]}/tokenize", json={"model": "one", "prompt": "a"}).json()["tokens"]
    options: Any = {"model": "one", "temperature": 0, "logprobs": 1}
    bias = {str(letter): 100}  # most answers of so small a model are no whole characters
    made = client.completions.create(prompt="hello", max_tokens=1, logit_bias=bias, **options).choices[0]
    assert made.text == "a"
    echoed = client.completions.create(prompt="helloa", max_tokens=0, echo=True, **options).choices[0]
    assert echoed.text == "helloa"
    assert echoed.logprobs.token_logprobs[0] is None
    assert echoed.logprobs.token_logprobs[-1] == pytest.approx(made.logprobs.token_logprobs[0], abs=0.02)
    assert "a" in echoed.logprobs.top_logprobs[-1]


def test_token_ids_say_the_same_as_their_text(server: tuple[str, psutil.Process], client: openai.OpenAI):
    tokens = httpx.post(f"{server[0]}/tokenize", json={"model": "one", "prompt": "hello"}).json()["tokens"]
    detokenized = httpx.post(f"{server[0]}/detokenize", json={"model": "one", "tokens": tokens})
    assert detokenized.json()["content"] == "hello"
    options: Any = {"model": "one", "temperature": 0, "max_tokens": 5}
    assert client.completions.create(prompt=tokens, **options).choices[0].text


def test_a_killed_worker_is_back_by_itself_and_the_other_model_never_notices(
    server: tuple[str, psutil.Process], client: openai.OpenAI
):
    url, process = server
    client.completions.create(model="two", prompt="x", max_tokens=1)
    before = set(process.children())
    client.completions.create(model="one", prompt="x", max_tokens=1)
    httpx.post(f"{url}/models/one/unload").raise_for_status()
    others = set(process.children())
    httpx.post(f"{url}/models/one/load").raise_for_status()
    (worker,) = set(process.children()) - others
    worker.kill()
    deadline = time.monotonic() + 60
    while (status := _status(client)) != 200:  # one that met the dead worker, before the server noticed
        assert status == 503
        assert time.monotonic() < deadline
    assert client.completions.create(model="two", prompt="x", max_tokens=1).choices
    assert before & set(process.children())


def _status(client: openai.OpenAI) -> int:
    try:
        client.completions.create(model="one", prompt="x", max_tokens=1)
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def test_ollamas_routes_answer_the_same_with_true_figures(server: tuple[str, psutil.Process]):
    options = {"temperature": 0, "num_predict": 12}
    body = {"model": "one:latest", "messages": MESSAGES, "options": options}
    same = {"model": "one", "messages": MESSAGES, "temperature": 0, "max_tokens": 12}
    with httpx.Client(base_url=server[0], timeout=60) as client:
        tags = {tag["name"]: tag for tag in client.get("/api/tags").json()["models"]}
        client.post("/api/generate", json={"model": "one", "keep_alive": 0})
        began = time.perf_counter()
        first = client.post("/api/chat", json=body).text.splitlines()
        took_ns = (time.perf_counter() - began) * 1e9
        *pieces, last = [json.loads(line) for line in first]
        whole = client.post("/api/chat", json={**body, "stream": False}).json()
        expected = client.post("/v1/chat/completions", json=same).json()
        (loaded,) = [m for m in client.get("/api/ps").json()["models"] if m["name"] == "one:latest"]
    assert {"one:latest", "two:latest"} <= set(tags)
    assert tags["one:latest"]["digest"] == loaded["digest"] != tags["two:latest"]["digest"]
    said = expected["choices"][0]["message"]["content"]
    assert "".join(piece["message"]["content"] for piece in pieces) == whole["message"]["content"] == said
    usage = expected["usage"]
    assert [last["prompt_eval_count"], last["eval_count"]] == [
        usage["prompt_tokens"],
        usage["completion_tokens"],
    ]
    parts = [last[f"{name}_duration"] for name in ("load", "prompt_eval", "eval")]
    assert min(parts) > 0
    assert sum(parts) <= last["total_duration"] < took_ns
    assert whole["load_duration"] < last["load_duration"]  # it was loaded for the first


def test_unloading_ends_the_worker(server: tuple[str, psutil.Process]):
    url, process = server
    loaded = httpx.post(f"{url}/models/one/load", timeout=60).json()
    assert loaded["memory_mb"] > 1
    n = len(process.children())
    assert httpx.post(f"{url}/models/one/unload").json()["was_loaded"]
    assert len(process.children()) == n - 1

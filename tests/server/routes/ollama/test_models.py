"""What models there are, as Ollama's clients read it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.models.files.chat_template import chat_template
from lqmf_runner.server.routes.ollama.models import OLLAMA_VERSION

from ....support.server.fakes import fake_server
from ....support.server.guarded import guarded_server


async def test_models_are_listed_with_a_tag_and_found_with_it():
    """Open WebUI adds the tag to a name that has none, and then looks it up in the list."""
    async with fake_server(sizes={"m": 100.0, "other": 50.0}) as (client, _):
        listed = (await client.get("/api/tags")).json()["models"]
        assert [(model["name"], model["model"], model["size"]) for model in listed] == [
            ("m:latest", "m:latest", 100_000_000),
            ("other:latest", "other:latest", 50_000_000),
        ]
        assert (
            len({model["digest"] for model in listed}) == 2
        )  # clients take the same digest for the same model
        assert datetime.fromisoformat(listed[0]["modified_at"]).tzinfo is not None
        for name in ("m", "m:latest"):
            for body in ({"model": name}, {"name": name}):
                assert (await client.post("/api/show", json=body)).status_code == 200
        assert (await client.post("/api/show", json={"model": "m:7b"})).status_code == 404
        assert (await client.post("/api/show", json={})).status_code == 400


async def test_what_is_loaded_and_until_when():
    async with fake_server() as (client, _):
        assert (await client.get("/api/ps")).json() == {"models": []}
        await client.post("/api/generate", json={"model": "m"})
        (forever,) = (await client.get("/api/ps")).json()["models"]
        await client.post("/api/generate", json={"model": "m", "keep_alive": "1h30m"})
        (limited,) = (await client.get("/api/ps")).json()["models"]
    assert (forever["name"], forever["size"], forever["context_length"]) == ("m:latest", 100_000_000, 2048)
    assert forever["details"]["quantization_level"] == "Q4_1"
    assert datetime.fromisoformat(forever["expires_at"]).year == 9999
    left = datetime.fromisoformat(limited["expires_at"]) - datetime.now().astimezone()
    assert 5300 < left.total_seconds() <= 5400


async def test_what_a_loaded_model_can_do():
    async with fake_server() as (client, _):
        await client.post("/api/generate", json={"model": "m"})
        shown = (await client.post("/api/show", json={"model": "m"})).json()
    assert shown["capabilities"] == ["completion"]
    assert shown["details"]["family"] == "llama"
    assert shown["details"]["parameter_size"] == "134.0M"
    info = shown["model_info"]
    assert info[info["general.architecture"] + ".context_length"] == 2048
    assert shown["parameters"] == "num_ctx 2048"


async def test_the_version_is_new_enough_for_clients():
    async with guarded_server() as server:
        assert (await server.client.get("/api/version")).json() == {"version": OLLAMA_VERSION}
        for path in ("/", "/api/tags"):  # whether a server is there
            assert (await server.client.head(path)).status_code == 200
    version = tuple(map(int, OLLAMA_VERSION.split(".")))
    assert version >= (0, 6, 4)  # what Copilot in VS Code wants
    assert version >= (0, 13, 4)  # what `codex --oss` wants


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/push", {"model": "m"}),
        ("POST", "/api/create", {"model": "n", "from": "m"}),
        ("POST", "/api/copy", {"source": "m", "destination": "n"}),
        ("DELETE", "/api/delete", {"model": "m"}),
        ("POST", "/api/blobs/sha256:29fd", None),
    ],
)
async def test_what_would_change_files_is_refused(method: str, path: str, body: Any):
    async with fake_server() as (client, _):
        refused = await client.request(method, path, json=body)
    assert (refused.status_code, "here" in refused.json()["error"]) == (400, True)


async def test_only_a_model_that_is_here_can_be_pulled():
    async with fake_server() as (client, _):
        here = await client.post("/api/pull", json={"model": "m:latest"})
        whole = await client.post("/api/pull", json={"name": "m", "stream": False})
        missing = await client.post("/api/pull", json={"model": "qwen3"})
    assert [json.loads(line) for line in here.text.splitlines()] == [{"status": "success"}]
    assert whole.json() == {"status": "success"}
    assert (missing.status_code, "lqmf pull qwen3" in missing.json()["error"]) == (404, True)


def test_the_chat_template_of_a_folder(tmp_path: Path) -> None:
    assert chat_template(tmp_path) == ""
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"chat_template": "one"}))
    assert chat_template(tmp_path) == "one"
    several = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    settings.write_text(json.dumps({"chat_template": several}))
    assert chat_template(tmp_path) == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert chat_template(tmp_path) == "three"
    settings.write_text("{")
    assert chat_template(tmp_path) == "three"

"""Clients of Ollama's API against the server on a real port."""

from __future__ import annotations

import json
from pathlib import Path

from ..support.server.guarded import guarded_server
from .test_clients import CITY, client_program, printed_by, run, script


async def test_ollamas_package():
    got = await printed_by("ollama_sdk.py", path="")
    images, option = got.pop("images"), got.pop("option")
    assert (images[0], "images" in images[1]) == (400, True)
    assert (option[0], "mirostat" in option[1]) == (400, True)
    assert got == {
        "models": ["m:latest", "other:latest"], "shown": "llama", "chat": "Hello",
        "figures": ["stop", 10, 2, True], "stream": "Hello", "generate": ["Hello", True, 2],
        "tools": ["weather", "sunny in Paris", "Hello"], "json": CITY, "loaded": ["m:latest"], "unload": "unload",
        "pull": "success", "missing": 404, "delete": 400, "create": 400,
    }  # fmt: skip


async def test_ollamas_package_with_a_key():
    python = client_program("python")
    async with guarded_server(script, keys="sesame:use") as server:
        code = "import ollama; print(ollama.chat('m', [{'role': 'user', 'content': 'Hi'}]).message.content)"
        env = {"OLLAMA_HOST": f"http://127.0.0.1:{server.port}"}
        assert (await run(python, "-c", code, **env, OLLAMA_API_KEY="sesame"))[:2] == (0, "Hello\n")
        code, _, err = await run(python, "-c", code, **env, OLLAMA_API_KEY="wrong")
    assert "status code: 401" in err


async def test_llms_plugin(tmp_path: Path):
    llm = client_program("llm")
    async with guarded_server(script) as server:
        env = {"LLM_USER_PATH": str(tmp_path), "OLLAMA_HOST": f"http://127.0.0.1:{server.port}"}
        assert (await run(llm, "-m", "ollama/m", "-o", "temperature", "0", "hi", **env))[:2] == (0, "Hello\n")
        code, out, err = await run(llm, "-m", "ollama/m:latest", "--schema", "city, note", "hi", **env)
    assert (code, json.loads(out)) == (0, CITY), err

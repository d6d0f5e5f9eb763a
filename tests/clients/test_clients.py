"""Clients that people use, against the server on a real port: chat, stream, tools, JSON, errors.

`make clients` installs those that are tried here; a test skips where its client is missing. The model is scripted,
because what is tried is the wire. `tests/server/test_clients.py` tries others with the demo model.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.types import GenerationRequest

from ..support.server.guarded import guarded_server

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = Path(os.environ.get("LQMF_TEST_CLIENTS", ROOT / ".venv-clients"))
CITY = {"city": "Paris"}


def script(request: GenerationRequest) -> Sequence[str]:
    """Calls the first tool once, answers with JSON where it must, and says hello otherwise."""
    messages = request.messages or ()
    if request.tools and messages[-1].role != "tool":
        name = request.tools[0]["function"]["name"]
        return ["<tool_call>", json.dumps({"name": name, "arguments": CITY}), "</tool_call>"]
    if request.sampling.constraint is not None:
        return ['{"city": ', '"Paris"}']
    return ["Hel", "lo"]


async def run(*command: str, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a client."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **env}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


def client_program(name: str) -> str:
    """A program of the clients' environment."""
    path = CLIENTS / "bin" / name
    if not path.exists():
        pytest.skip("the clients are not installed (make clients)")
    return str(path)


async def printed_by(program: str, python: str | None = None, path: str = "/v1") -> dict[str, Any]:
    """What a client's program in `programs/` prints about a server, which it gets as its argument."""
    python = python or client_program("python")
    async with guarded_server(script) as server:
        code, out, err = await run(python, str(PROGRAMS / program), f"http://127.0.0.1:{server.port}{path}")
    assert code == 0, err
    got: dict[str, Any] = json.loads(out)
    return got


def python_with_openai(major: int) -> str:
    """The tests' own environment has version 2 of OpenAI's package, that of the clients version 3."""
    return sys.executable if major == 2 else client_program("python")


@pytest.mark.parametrize("major", [2, 3])
async def test_openai(major: int):
    got = await printed_by("openai_sdk.py", python_with_openai(major))
    assert got.pop("version").startswith(f"{major}.")
    assert got == {
        "chat": "Hello", "stream": "Hello", "usage": 2, "tools": ["weather", CITY], "after_tools": "Hello",
        "json": CITY, "error": [404, "model_not_found"], "param": "temperature",
    }  # fmt: skip


@pytest.mark.parametrize("major", [2, 3])
async def test_openai_responses(major: int):
    got = await printed_by("openai_responses.py", python_with_openai(major))
    assert got.pop("version").startswith(f"{major}.")
    item = ["response.output_item.added", "response.output_item.done"]
    arguments = [f"response.function_call_arguments.{name}" for name in ("delta", "done")]
    part = ["response.content_part.added", "response.content_part.done"]
    text = [f"response.output_text.{name}" for name in ("delta", "delta", "done")]
    assert got == {
        "text": ["Hello", "completed", 2],
        "events": ["response.created", "response.in_progress", item[0], part[0], *text, part[1], item[1],
                   "response.completed"],
        "stream": "Hello", "parsed": "Paris", "call_events": [item[0], *arguments, item[1]],
        "call": ["weather", CITY], "sent": "Hello", "kept": "Hello", "retrieved": "Hello",
        "items": ["message", "function_call", "function_call_output"], "retrieve": 404, "cancel": 404,
        "gone": ["previous_response_id", "previous_response_not_found"], "tool": ["tools[0].type", True],
    }  # fmt: skip


async def test_openai_agents():
    python = client_program("python")
    if (await run(python, "-c", "import agents"))[0]:
        pytest.skip("openai-agents is not installed (make clients)")
    got = await printed_by("openai_agents.py", python)
    assert got.pop("version").startswith("0.24.")
    assert got == {
        "run": "Hello", "streamed": ["Hello", True], "asked": ["Paris"] * len(got["asked"]), "goes_on": "Hello",
        "session": "Hello", "typed": "Paris", "handoff": ["inner", "Hello"],
    }  # fmt: skip


async def test_instructor():
    got = await printed_by("instructor_sdk.py")
    assert "400" in got.pop("error")  # no messages
    assert got == {"TOOLS": CITY, "JSON": CITY, "JSON_SCHEMA": CITY}


async def test_llm(tmp_path: Path):
    llm = client_program("llm")
    tool = tmp_path / "tool.py"
    tool.write_text("def weather(city: str) -> str:\n    return f'sunny in {city}'\n")
    async with guarded_server(script) as server:
        (tmp_path / "extra-openai-models.yaml").write_text(
            f"- {{model_id: local, model_name: m, api_base: 'http://127.0.0.1:{server.port}/v1',"
            " supports_tools: true, supports_schema: true}\n"
            f"- {{model_id: none, model_name: nope, api_base: 'http://127.0.0.1:{server.port}/v1'}}\n"
        )
        env = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
        ask = partial(run, llm, **env)
        assert (await ask("-m", "local", "--no-stream", "hi"))[:2] == (0, "Hello\n")
        assert (await ask("-m", "local", "hi"))[:2] == (0, "Hello\n")
        code, out, err = await ask("-m", "local", "--schema", "city, note", "hi")
        assert (code, json.loads(out)) == (0, CITY), err
        code, out, err = await ask("-m", "local", "--functions", str(tool), "--td", "hi")
        assert (code, out.strip()[-5:]) == (0, "Hello"), err
        assert "sunny in Paris" in err
        code, _, err = await ask("-m", "none", "hi")
        assert code == 1
        assert "no model 'nope'" in err


async def test_the_javascript_sdk_in_a_page_of_another_origin():
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    sdk = CLIENTS / "npm" / "package"
    if browser is None or not sdk.exists():
        pytest.skip("Chromium or the npm package openai is not installed (make clients)")
    with serve_page(sdk) as page, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with guarded_server(script, cors_origins=[page.origin]) as server:
            process = await asyncio.create_subprocess_exec(
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
                "--remote-debugging-port=0", f"{page.origin}/?base=http://127.0.0.1:{server.port}/v1",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                assert await asyncio.to_thread(page.arrived.wait, 60), "the page sent no answer"
            finally:
                process.kill()
                await process.wait()
    assert page.got == {
        "chat": "Hello", "stream": "Hello", "tools": ["weather", CITY], "json": CITY, "models": True,
        "error": [404, "model_not_found"],
    }  # fmt: skip


class Page(http.server.ThreadingHTTPServer):
    """Serves the page and the SDK's modules, and keeps what the page sends back."""

    daemon_threads = True

    def __init__(self, sdk: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_PageHandler, directory=str(sdk)))
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"
        self.arrived = threading.Event()
        self.got: Any = None


class _PageHandler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012
    server: Page

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/openai/"):
            self.path = self.path.removeprefix("/openai")
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((PROGRAMS / "page.html").read_bytes())

    def do_POST(self) -> None:
        self.server.got = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.arrived.set()


@contextlib.contextmanager
def serve_page(sdk: Path) -> Iterator[Page]:
    with Page(sdk) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            yield page
        finally:
            page.shutdown()
            thread.join()

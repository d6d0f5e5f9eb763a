"""langchain-tests' standard chat-model suite, as langchain runs it for its own partners."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.types import GenerationRequest

from ..support.server.guarded import guarded_server
from .test_clients import PROGRAMS, client_program, run


def script(request: GenerationRequest) -> Sequence[str]:
    """Calls the first tool once with what its schema asks for, fills in a schema, and talks otherwise."""
    messages = request.messages or ()
    if request.tools and messages[-1].role != "tool":
        function = request.tools[0]["function"]
        call = {"name": function["name"], "arguments": example(function.get("parameters") or {})}
        return ["<tool_call>", json.dumps(call), "</tool_call>"]
    constraint = request.sampling.constraint
    if constraint is not None:
        return [json.dumps(example(json.loads(constraint.value or "null") or JOKE))]
    return ["Hello", ", ", "you"]


JOKE = {"properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}}}


def example(schema: dict[str, Any]) -> Any:
    """The smallest value of a JSON schema without references."""
    kinds = {"integer": 3, "number": 3.0, "boolean": True, "array": [], "null": None}
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema or schema.get("type") == "object":
        return {name: example(inner) for name, inner in schema.get("properties", {}).items()}
    return kinds.get(schema.get("type", "string"), "你好 こんにちは 株式会社")


@pytest.mark.parametrize(
    ("suite", "path", "env"),
    [
        ("langchain_standard.py", "/v1", {}),
        ("langchain_standard.py", "/v1", {"LQMF_RESPONSES": "1"}),
        ("langchain_ollama_standard.py", "", {}),
    ],
)
async def test_the_standard_suite_of_langchain(suite: str, path: str, env: dict[str, str], tmp_path: Path):
    python = client_program("python")
    program = tmp_path / "test_standard.py"  # far from the conftest of these tests
    program.write_text((PROGRAMS / suite).read_text())
    async with guarded_server(script) as server:
        base = f"http://127.0.0.1:{server.port}{path}"
        code, out, err = await run(
            python, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
            "-o", "asyncio_mode=auto", str(program), LQMF_BASE_URL=base, OPENAI_API_KEY="none",
            **env,
        )  # fmt: skip
    assert code == 0, out[-6000:] + err
    assert int(re.search(r"(\d+) passed", out)[1]) >= 30  # type: ignore[index]

"""Fields of a body: honoured, as left out, passed over as labels, or refused by name; on every route.

Constraints of other servers that were dropped in silence (vllm #53975, outlines #1887, llama.cpp #24096), more than
four stop strings (continue #2461), numbers as other clients send them (AI-Studio #524, vllm #4531, llama-cpp-python
#2042), extras that ask for nothing (litellm #29434, lmdeploy #4121).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from lqmf_runner.errors import FieldError
from lqmf_runner.types import Constraint

from ...support.server.fakes import fake_server
from ...support.server.openai_bodies import chat, completion

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "m", "prompt": "hi"},
    "/models/m/chat": {"message": "hi"},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
HONOURED: dict[str, tuple[Any, Constraint]] = {
    "guided_choice": (["a", "b"], Constraint("choice", '["a", "b"]')),
    "guided_json": ('{"type": "object"}', Constraint("json_schema", '{"type": "object"}')),
    "guided_regex": ("[ab]", Constraint("regex", "[ab]")),
    "regex": ("[ab]", Constraint("regex", "[ab]")),
    "json_schema": ({"type": "object"}, Constraint("json_schema", '{"type": "object"}')),
    "format": ("json", Constraint("json_object")),
    "response_format": (
        {"type": "json_object", "schema": {"type": "object"}},
        Constraint("json_schema", '{"type": "object"}'),
    ),
}
REFUSED: list[tuple[str, Any]] = [
    ("guided_grammar", "root ::= x"), ("grammar", "root ::= x"), ("ebnf", "root ::= x"), ("format", "xml"),
    ("structured_outputs", {"choices": ["a"]}), ("structured_outputs", {}), ("guided_choice", []),
    ("response_format", {"type": "json_object", "shema": SCHEMA}),
    ("response_format", {"type": "text", "schema": SCHEMA}),
    ("function_call", {"name": "f"}), ("functions", [{"name": "f"}]), ("stop_token_ids", [5]), ("bad_words", ["a"]),
    ("min_tokens", 5), ("temprature", 0), ("mirostat", 2), ("typical_p", 0.5), ("do_sample", False), ("think", False),
    ("enable_thinking", False), ("options", {"temperature": 0}), ("extra_body", {"guided_choice": ["a"]}),
    ("previous_response_id", "x"), ("system_message", "x"), ("use_beam_search", True), ("length_penalty", 2.0),
    ("skip_special_tokens", False), ("adapter_id", "x"), ("n_predict", 5),
]  # fmt: skip
TAKEN: list[tuple[str, Any]] = [
    ("user", "u"), ("metadata", {"a": "b"}), ("store", True), ("service_tier", "auto"), ("safety_identifier", "x"),
    ("prompt_cache_key", "x"), ("session_id", "x"), ("chat_id", "x"), ("requestId", "x"), ("x_anything", [1]),
    ("num_ctx", 4096), ("num_thread", 2), ("use_mmap", True),  # Open WebUI sends its settings to every connection
    ("tags", ["a"]), ("cache_prompt", True), ("mirostat", 0), ("mirostat_tau", 5.0), ("typical_p", 1),
    ("functions", []), ("use_beam_search", False), ("stop", ""), ("stop", ["", "x"]),
    ("stop", [f"<{n}>" for n in range(64)]),
    ("seed", -1), ("max_tokens", -1), ("max_tokens", 4.0), ("top_k", 40.0), ("seed", 1.0), ("top_p", None),
    ("max_tokens", None),
    ("stream_options", {"include_usage": True}), ("stream_options", {}), ("top_logprobs", 0), ("logprobs", False),
    ("n", 1.0), ("modalities", ["text"]),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with fake_server() as (client, _):
        yield client


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(("field", "value"), REFUSED)
async def test_what_would_change_the_answer_is_refused_by_name(
    client: httpx.AsyncClient, path: str, field: str, value: Any
) -> None:
    response = await client.post(path, json=ROUTES[path] | {field: value})
    assert (response.status_code, field in response.text) == (400, True), response.text


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(("field", "value"), TAKEN)
async def test_what_changes_nothing_is_taken(
    client: httpx.AsyncClient, path: str, field: str, value: Any
) -> None:
    response = await client.post(path, json=ROUTES[path] | {field: value})
    assert response.status_code == 200, response.text


# Routes that generate nothing. What shapes their answer is theirs alone, and everything else follows the same rule.
QUESTIONS = {"team": {"type": "choice", "criteria": {"billing": "payments", "sales": None}}}
PREDICATE = [{"type": "predicate", "instructions": "Is it urgent?"}]
YES_NO = [{"id": "q", "type": "yes_no", "question": "Is it urgent?"}]
READING: list[tuple[str, dict[str, Any]]] = [
    ("/tokenize", {"model": "m", "prompt": "ab"}),
    ("/detokenize", {"model": "m", "tokens": [97]}),
    ("/v1/systemone", {"model": "m", "state": "x", "questions": QUESTIONS}),
    ("/v1/decisions", {"model": "m", "input": "x", "questions": PREDICATE}),
    ("/v1/decisions", {"model": "m", "input": "x", "questions": YES_NO}),
]
READING_REFUSED = [
    ("messages", [{"role": "user", "content": "hi"}]), ("with_pieces", True), ("return_token_strs", True),
    ("parse_special", False), ("chat_template", "{{ x }}"), ("skip_special_tokens", False),
    ("previous_response_id", "x"), ("add_specials", True), ("stat", "x"),
]  # fmt: skip
READING_TAKEN = [
    ("user", "u"), ("metadata", {"a": "b"}), ("with_pieces", False), ("return_token_strs", None),
    ("parse_special", True), ("session_id", "x"), ("messages", []),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), READING)
async def test_routes_that_generate_nothing_follow_the_same_rule(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    for field, value in READING_REFUSED:
        response = await client.post(path, json=body | {field: value})
        assert (response.status_code, field in response.text) == (400, True), response.text
        assert response.json()["error"]["param"] == field
    for field, value in READING_TAKEN:
        response = await client.post(path, json=body | {field: value})
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("field", HONOURED)
@pytest.mark.parametrize("make", [chat, completion])
async def test_constraints_of_other_servers_hold(make: Any, field: str) -> None:
    value, constraint = HONOURED[field]
    assert make(**{field: value}).requests[0].sampling.constraint == constraint
    with pytest.raises(FieldError, match="exclude each other"):
        make(**{field: value, "structured_outputs": {"choice": ["a"]}})


async def test_numbers_say_what_they_say_elsewhere() -> None:
    sampling = chat(max_tokens=-1, seed=-1, top_k=40.0).requests[0].sampling
    assert (sampling.max_tokens, sampling.seed, sampling.top_k) == (None, None, 40)
    assert completion(prompt=[5.0, 6.0]).requests[0].prompt_tokens == (5, 6)
    seeds = [request.sampling.seed for request in chat(seed=-3, n=4).requests]
    assert len(set(seeds)) == 4
    assert None not in seeds, "-1 is no seed"
    for wrong in (0, -2, 1.5):
        with pytest.raises(FieldError) as caught:
            chat(max_tokens=wrong)
        assert "leave it out" in caught.value.hint


async def test_a_fixed_length_is_asked_for_as_benchmarks_do() -> None:
    assert chat(min_tokens=8, max_tokens=8, ignore_eos=True).requests[0].sampling.max_tokens == 8
    for wrong in ({"stop": "x"}, {"guided_regex": "a"}, {"ignore_eos": False}, {"max_tokens": 4}):
        with pytest.raises(FieldError) as caught:
            chat(**({"min_tokens": 8, "max_tokens": 8, "ignore_eos": True} | wrong))
        assert caught.value.param == "min_tokens"

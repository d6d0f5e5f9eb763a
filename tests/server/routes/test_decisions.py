"""Decisions over real HTTP, with scripted engines."""

from __future__ import annotations

from typing import Any

import pytest

from ...support.server.fakes import fake_server

QUESTIONS = {"team": {"type": "choice", "criteria": {"billing": "payments", "sales": None}}}
SGLANG = [{"id": "q", "type": "choice", "question": "Which?", "options": [{"name": "a"}, {"name": "b"}]}]


async def test_system_one_answers_with_probabilities():
    async with fake_server() as (client, _):
        body = {"model": "m", "state": "I was charged twice.", "questions": QUESTIONS}
        answer = (await client.post("/v1/systemone", json=body)).json()
    assert answer["object"] == "structured_decision"
    assert answer["answers"]["team"]["choice"] == "billing"
    assert answer["answers"]["team"]["probabilities"] == pytest.approx({"billing": 0.75, "sales": 0.25})
    assert answer["usage"] == {"input_tokens": 10, "output_tokens": 0}


async def test_decisions_answer_in_the_shape_of_their_questions():
    openai = [{"type": "predicate", "instructions": "Is it urgent?"}]
    async with fake_server() as (client, _):
        url = "/v1/decisions"
        first = (await client.post(url, json={"model": "m", "input": "x", "questions": openai})).json()
        second = (await client.post(url, json={"model": "m", "input": "x", "questions": SGLANG})).json()
    assert first["answers"][0]["type"] == "predicate"
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert second["answers"]["q"]["probabilities"] == pytest.approx({"a": 0.75, "b": 0.25})


@pytest.mark.parametrize("path", ["/v1/systemone", "/v1/decisions"])
@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"model": 5}, {"model": "m"}, {"model": "m", "state": "x", "input": "x", "questions": 5},
        {"model": "m", "state": "x", "input": "x", "questions": []}, {"model": "m", "keep_alive": [], "questions": {}},
        {"model": "m", "state": "x", "input": "x", "questions": [{"id": "a", "type": "guess"}]},
        {"model": "m", "state": "x", "input": "x", "questions": {"a": {"type": "choice", "criteria": {}}}},
    ],
)  # fmt: skip
async def test_malformed_questions_are_400(path: str, body: Any):
    async with fake_server() as (client, _):
        response = await client.post(path, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]

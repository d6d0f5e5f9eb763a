"""Requests made up from the OpenAPI document, good and bad ones: none may end in a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from ..support.server.processes import MODEL, Program

CHECKS: Any = [not_a_server_error, content_type_conformance, response_schema_conformance]
FUZZED = hypothesis.settings(
    max_examples=20,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
KEY = {"x-api-key": "reader"}


@pytest.fixture(scope="module", params=["", "sesame,reader:use"], ids=["open", "with keys"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The URL of a real server over a tiny model, and the headers that open it."""
    program = Program(tmp_path_factory.mktemp("fuzz"))
    settings = ("backend.n_ctx=256", "backend.n_threads=1", "server.max_sessions=8")
    with program.serve(*settings, **({"LQMF_API_KEYS": request.param} if request.param else {})) as server:
        yield server.url, KEY if request.param else {}
        assert server.process.poll() is None


def aimed(case: schemathesis.Case, example: dict[str, Any] | None) -> schemathesis.Case:
    """At a model that is there; with an example, all but what the example says is made up.

    Never many answers: the time is better spent on more requests.
    """
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = MODEL
    if isinstance(case.body, dict):
        case.body |= example or ({"model": MODEL} if "model" in case.body else {})
        if isinstance(case.body.get("n"), int):
            case.body["n"] = min(case.body["n"], 3)
        if isinstance(
            case.body.get("replicas"), int | float
        ):  # for hundreds there is no memory, which is 507
            case.body["replicas"] = min(case.body["replicas"], 2)
    return case


def test_no_request_ends_in_a_server_error(server: tuple[str, dict[str, str]]):
    url, headers = server
    document = httpx.get(f"{url}/openapi.json", headers=headers, timeout=60).json()
    with requests.Session() as session:
        session.headers.update(headers)
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            fuzz(result.ok(), url, session)


def fuzz(operation: schemathesis.APIOperation, url: str, session: requests.Session) -> None:
    examples = [
        example["value"]
        for body in operation.body
        for example in body.definition.get("examples", {}).values()
    ]
    modes = list(GenerationMode) if examples or operation.query else [GenerationMode.POSITIVE]
    cases = strategies.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    aims = strategies.sampled_from([*examples, None])

    @FUZZED
    @hypothesis.given(case=cases, example=aims, at_ours=strategies.sampled_from([True, True, True, False]))
    def send(case: schemathesis.Case, example: dict[str, Any] | None, at_ours: bool) -> None:
        if at_ours:
            case = aimed(case, example)
        response = case.call(base_url=url, session=session, timeout=60)
        case.validate_response(response, checks=CHECKS)

    send()

"""Error statuses of an endpoint. `tests/engine/test_remote.py` has all of them over real HTTP."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import EndpointSetupError, InvalidRequestError, TooManyRequestsError
from lqmf_runner.openai_api.client.errors import read_error, retry_after_s


def test_403_is_about_the_key_before_the_first_request_only() -> None:
    assert isinstance(read_error(403, "{}", connecting=True), EndpointSetupError)
    assert isinstance(read_error(403, "{}"), InvalidRequestError)


@pytest.mark.parametrize(
    "body",
    ['{"error": {"message": "too long"}}', '{"error": "too long"}', '{"message": "too long"}', "too long"],
)
def test_the_message_is_found_wherever_it_stands(body: str) -> None:
    assert read_error(400, body).message == "the endpoint refused the request: too long"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), ("0", 1.0), ("99999", 3600.0), ("9" * 5000, 1.0), ("Fri, 31 Dec", 1.0), ("", 1.0)],
)
def test_seconds_to_wait(value: str, seconds: float) -> None:
    assert retry_after_s(value) == seconds
    error = read_error(429, "busy", retry_after=value)
    assert isinstance(error, TooManyRequestsError)
    assert error.retry_after_s == seconds

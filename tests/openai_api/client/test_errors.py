"""Error statuses of an endpoint. `tests/engine/remote/` has all of them over real HTTP."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import EndpointBusyError, EndpointSetupError, InvalidRequestError
from lqmf_runner.openai_api.client.errors import read_error, read_unfinished, retry_after_s


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
    ("outside", "says"),
    [
        ("", "broke off in the middle of an answer"), ("\n", "broke off in the middle of an answer"),
        ('{"error": {"message": "boom"}}', "not answer with a stream of events: boom"),
        ('{"error": "boom"}', "not answer with a stream of events: boom"),
        ("<html>\n<h1>Login</h1>", "not answer with a stream of events: <html> <h1>Login"),
        ('{"choices": []}', "not answer with a stream of events: {'choices': []}"),
    ],
)  # fmt: skip
def test_what_an_endpoint_says_in_place_of_a_stream_is_told(outside: str, says: str) -> None:
    assert says in read_unfinished(outside).message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), ("0", 1.0), ("99999", 3600.0), ("9" * 5000, 1.0), ("Fri, 31 Dec", 1.0), ("", 1.0)],
)
def test_seconds_to_wait(value: str, seconds: float) -> None:
    assert retry_after_s(value) == seconds
    error = read_error(429, "busy", retry_after=value)
    assert isinstance(error, EndpointBusyError)
    assert error.retry_after_s == seconds

"""Errors as JSON."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import (
    ContextLengthError,
    EngineError,
    EngineLostError,
    FieldError,
    LqmfError,
    ModelNotFoundError,
    QueueFullError,
    RemoteEngineError,
)
from lqmf_runner.openai_api.errors import OpenAIErrorDetail, error_body, public_error, without_places


@pytest.mark.parametrize(
    ("error", "kind", "param", "code"),
    [
        (FieldError("no", param="n"), "invalid_request_error", "n", "invalid_request"),
        (FieldError("no", param=None, code="own"), "invalid_request_error", None, "own"),
        (ContextLengthError("no"), "invalid_request_error", None, "context_length_exceeded"),
        (ModelNotFoundError("no"), "not_found_error", None, "model_not_found"),
        (QueueFullError("no"), "rate_limit_error", None, "rate_limit_exceeded"),
        (EngineLostError("no"), "server_error", None, "unavailable"),
        (RemoteEngineError("no"), "server_error", None, "server_error"),
    ],
)
def test_a_body_has_the_kind_the_field_and_a_code(
    error: LqmfError, kind: str, param: str | None, code: str
) -> None:
    assert error_body(error).error == OpenAIErrorDetail("no", kind, param, code)


def test_the_hint_is_part_of_the_message_and_places_are_not() -> None:
    error = FieldError("cannot read /home/me/secret.txt", param=None, hint="ask http://10.0.0.1:80/x")
    assert error_body(error).error.message == "cannot read … (ask …)"
    assert without_places("POST /v1/chat/completions, a/b, 1/2") == "POST /v1/chat/completions, a/b, 1/2"


def test_what_only_the_log_may_know_is_not_public() -> None:
    for error in (ValueError("secret"), EngineError("secret")):
        assert "secret" not in public_error(error).message
    for known in (RemoteEngineError("502"), EngineLostError("it died"), FieldError("no", param="n")):
        assert public_error(known) is known

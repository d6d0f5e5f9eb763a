from __future__ import annotations

import pytest

from lqmf_runner.errors import ConflictError
from lqmf_runner.openai_api.errors import OpenAIError
from lqmf_runner.server.errors import ErrorShapes, NativeError
from lqmf_runner.server.routes import ROUTES


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", OpenAIError),
        ("/v1/models/any-name", OpenAIError),
        ("/v1/no/such/route", OpenAIError),
        ("/tokenize", OpenAIError),
        ("/models/m/chat", NativeError),
        ("/models/no/such/route", NativeError),
        ("/v1", OpenAIError),
        ("/", NativeError),
        ("", NativeError),
        ("/no-such-route", NativeError),
    ],
)
def test_an_error_has_the_shape_of_its_path(path: str, kind: type):
    assert type(ErrorShapes(ROUTES).body(ConflictError("taken"), path)) is kind


def test_without_routes_errors_are_native():
    assert type(ErrorShapes().body(ConflictError("taken"), "/v1/models")) is NativeError

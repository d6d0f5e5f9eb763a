"""Bodies that are wrong: the error names the field."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.schemas import ChatCompletionRequest

START = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"), (b'{"model": "m"}', "messages"), (b'{"model": 5}', "model"), (b"[]", None), (b"{", None),
        (b"\xff", None), (b"[" * 50_000, None), (START + b', "temperature": 3}', "temperature"),
        (START + b', "logit_bias": {"x": 1}}', "logit_bias"),
        (b'{"model": "m", "messages": [{"role": "robot"}]}', "messages[0].role"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "messages[0].role"),
    ],
)  # fmt: skip
def test_the_field_is_named(body: bytes, param: str | None) -> None:
    with pytest.raises(FieldError) as caught:
        decode(ChatCompletionRequest, body)
    found = caught.value.param
    assert found == param if param is None else (found or "").startswith(param)


def test_labels_are_passed_over() -> None:
    assert decode(ChatCompletionRequest, START + b', "metadata": {"a": 1}}').model == "m"

"""Stop strings and durations."""

from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.bodies.sampling import MAX_STOP_LENGTH, keep_alive_seconds, stop_strings


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (300, 300),
        (-1, -1),
        ("5m", 300.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("-1m", -60.0),
        ("7", 7.0),
        ("-1", -1.0),
    ],
)
def test_durations(value: Any, seconds: float | None) -> None:
    assert keep_alive_seconds(value) == seconds


@pytest.mark.parametrize("value", ["soon", "", "5 minutes", "1e3", "m", "5m7x"])
def test_what_is_no_duration_is_named(value: str) -> None:
    with pytest.raises(FieldError) as caught:
        keep_alive_seconds(value)
    assert caught.value.param == "keep_alive"


def test_stop_strings() -> None:
    assert (stop_strings(None), stop_strings("a"), stop_strings(["a", "b"])) == ((), ("a",), ("a", "b"))
    assert (stop_strings(""), stop_strings(["", "a"])) == ((), ("a",)), "an empty string stops nothing"
    with pytest.raises(FieldError):
        stop_strings("x" * (MAX_STOP_LENGTH + 1))

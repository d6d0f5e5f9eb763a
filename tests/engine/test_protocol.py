"""What errors become on their way from the worker to the front."""

from __future__ import annotations

import pytest

from lqmf_runner.engine.protocol import error_from, failure
from lqmf_runner.errors import ContextLengthError, DoesNotFitError, EngineError

TORCH = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError(TORCH), RuntimeError("std::bad_alloc")], ids=repr
)
def test_memory_that_ran_out_is_said_to_be_that(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    known = error_from(failure(7, error))
    assert type(known) is DoesNotFitError
    assert "memory ran out" in known.message
    assert "backend.max_slots" in known.hint
    assert type(error).__name__ in capfd.readouterr().err


def test_a_bug_is_an_engine_error_whose_traceback_is_where_the_hint_says(
    capfd: pytest.CaptureFixture[str],
) -> None:
    known = error_from(failure(7, KeyError("x")))
    assert (type(known), known.message) == (EngineError, "KeyError: 'x'")
    assert "LQMF_DEBUG=1" in known.hint
    assert "KeyError: 'x'" in capfd.readouterr().err


def test_our_own_errors_travel_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    known = error_from(failure(7, ContextLengthError("too long", hint="shorten it")))
    assert (type(known), known.message, known.hint) == (ContextLengthError, "too long", "shorten it")
    assert not capfd.readouterr().err

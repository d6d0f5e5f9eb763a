"""Traces of a server's requests to MLflow, after the fact: one trace a request, with the engine's phases as spans."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..results.files import decode_lines
from ..results.schema import RequestTrace
from .values import TAG_LENGTH, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LiveSpan

_BATCH = 50


def send_traces(
    client: MlflowClient, path: Path, start: int, *, experiment: str, run_id: str
) -> Iterator[int]:
    """Send the traces in a file, a `RequestTrace` a line; yields the position in it when MLflow has a batch of them.

    Args:
        client: of the store that is MLflow's current one.
        start: position of the first line to send.

    Raises:
        MlflowException: MLflow did not take them.
    """
    import mlflow

    with open(path, "rb") as file:
        file.seek(start)
        while lines := list(itertools.islice(file, _BATCH)):
            sent = [_send(trace, experiment, run_id) for trace in decode_lines(lines, RequestTrace)]
            mlflow.flush_trace_async_logging()
            if sent:
                client.get_trace(sent[-1])  # errors of the transfer are only logged; then this fails
            start += sum(map(len, lines))
            yield start


def _send(trace: RequestTrace, experiment: str, run_id: str) -> str:
    """Hand a trace to MLflow, which sends it in the background; returns its id."""
    import mlflow

    began, ended = _nanoseconds(trace.began), _nanoseconds(trace.began + trace.duration_s)
    tags = {"model": trace.model, "lqmf.request_id": trace.id, "lqmf.key": trace.key or ""}
    root = mlflow.start_span_no_context(
        trace.route,
        span_type="CHAT_MODEL" if trace.route.endswith(("chat", "chat/completions")) else "LLM",
        inputs=trace.inputs,
        attributes=_attributes(trace),
        tags={name: shorten(value, TAG_LENGTH) for name, value in tags.items() if value},
        metadata={"mlflow.sourceRun": run_id},
        experiment_id=experiment,
        start_time_ns=began,
    )
    _add_phases(root, trace)
    root.end(outputs=trace.outputs, status="ERROR" if trace.error else "OK", end_time_ns=ended)
    return str(root.trace_id)


def _add_phases(root: LiveSpan, trace: RequestTrace) -> None:
    """Spans of the engine's phases around the first token: queue and prefill before it, decode after it."""
    import mlflow

    if not trace.first_token_s:
        return
    first = trace.began + trace.first_token_s
    prefill = max(first - trace.prefill_s, trace.began)
    queue = max(prefill - trace.queue_s, trace.began)
    decoded = min(first + trace.decode_s, trace.began + trace.duration_s)
    for name, start, end in (
        ("queue", queue, prefill),
        ("prefill", prefill, first),
        ("decode", first, decoded),
    ):
        span = mlflow.start_span_no_context(name, parent_span=root, start_time_ns=_nanoseconds(start))
        span.end(end_time_ns=_nanoseconds(end))


def _attributes(trace: RequestTrace) -> dict[str, Any]:
    """The figures of a request; the counts of tokens where MLflow's own pages look for them."""
    figures = msgspec.to_builtins(trace)
    for name in ("inputs", "outputs", "began"):
        del figures[name]
    usage = {
        "input_tokens": trace.prompt_tokens,
        "output_tokens": trace.output_tokens,
        "total_tokens": trace.prompt_tokens + trace.output_tokens,
        "cache_read_input_tokens": trace.cached_tokens,
    }
    return {**figures, "mlflow.chat.tokenUsage": usage, "mlflow.llm.model": trace.model}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)

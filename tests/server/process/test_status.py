"""What `mode=status` asks a server, and how it shows replicas and versions."""

from __future__ import annotations

import pytest

from lqmf_runner.server.process.status import examine, shares, shown_models

from ...support.server.answering import answering_server

REPLICAS = [{"state": "ready", "place": "node-b"}, {"state": "starting", "place": "node-c"}]


def test_replicas_and_versions_are_shown() -> None:
    models = [{"name": "a", "replicas": []}, {"name": "qwen@3", "replicas": REPLICAS}]
    names = {"qwen": {"qwen@3": 0.9, "qwen@4": 0.1}}
    answers = {"/health": {}, "/models": {"models": models}, "/versions": {"names": names}}
    with answering_server(answers) as record:
        server = examine(record)
    assert server["models"] == ["a", "qwen@3"]
    assert server["versions"] == names
    assert shown_models(server) == "qwen: 90 % qwen@3 (1 of 2 ready (node-b)), 10 % qwen@4, a"


def test_where_a_key_is_wanted_the_models_of_the_start_are_shown() -> None:
    with answering_server({"/health": {}}) as record:
        server = examine(record)
    assert server["health_ms"] is not None
    assert shown_models(server) == "of the start"


def test_nothing_is_loaded() -> None:
    with answering_server({"/health": {}, "/models": {"models": []}, "/versions": {"names": {}}}) as record:
        assert shown_models(examine(record)) == "-"


@pytest.mark.parametrize(
    ("versions", "text"), [({"m@3": 1.0}, "m@3"), ({"m@3": 0.5, "m@4": 0.5}, "50 % m@3, 50 % m@4")]
)
def test_shares_are_written_where_there_are_several(versions: dict[str, float], text: str) -> None:
    assert shares(versions) == text

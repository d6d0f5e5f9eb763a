"""Which model is asked where the plain forms do not understand."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lqmf_runner.config import RunConfig
from lqmf_runner.console import third_layer
from lqmf_runner.console.server_link import shown_key
from lqmf_runner.console.third_layer import Understander
from lqmf_runner.console.understanding.understand import Understanding


def test_the_key_for_a_served_model_is_not_shown_as_one_that_the_users_shell_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"LQMF_API_KEYS": "secret:inference,other"})
    server = SimpleNamespace(url="http://127.0.0.1:9")
    monkeypatch.setattr(third_layer, "find_server", lambda port: server)
    monkeypatch.setattr(third_layer, "ServerLink", lambda *_: SimpleNamespace(loaded=lambda: ["m"]))
    asked: list[str] = []
    monkeypatch.setattr(Understander, "_load", lambda self, name, *overrides: asked.extend(overrides))
    context = cast(Any, SimpleNamespace(config=RunConfig()))
    understander = Understander(context, Understanding(["m"]), lambda: ["m"])
    understander._connect()
    understander.close()
    read = next(word.partition("=")[2] for word in asked if word.startswith("backend.api_key_env="))
    assert os.environ[read] == "secret"
    assert shown_key() == "${LQMF_API_KEYS%%[:,]*}"

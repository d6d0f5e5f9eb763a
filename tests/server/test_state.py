from __future__ import annotations

from lqmf_runner.server.state import Lifecycle


def test_a_server_is_ready_once_the_models_of_its_start_are_loaded_and_until_it_drains():
    lifecycle = Lifecycle({"b", "a"})
    assert lifecycle.not_ready() == "loading a, b"
    lifecycle.waiting_for.clear()
    assert lifecycle.not_ready() == ""
    lifecycle.draining = True
    assert lifecycle.not_ready() == "the server is draining"

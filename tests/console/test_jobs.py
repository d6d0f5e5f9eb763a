"""Runs of the program that the console starts, in whatever thread."""

from __future__ import annotations

import threading

from lqmf_runner.console.jobs import run_in_foreground


def test_a_step_behind_a_background_run_may_start_a_run_too() -> None:
    codes: list[object] = []
    thread = threading.Thread(
        target=lambda: codes.append(run_in_foreground(["--version"], interactive=False).code)
    )
    thread.start()
    thread.join(60)
    assert codes == [0]

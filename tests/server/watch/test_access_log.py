"""The lines of the access log, and the thread that writes them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.server.watch.access_log import AccessLogFile, _path, _plain_line


def test_nothing_breaks_out_of_a_line_of_the_plain_log():
    entry = {
        "time": "t",
        "client": "c",
        "key": None,
        "method": "GET",
        "path": "/",
        "status": 200,
        "duration_ms": 1,
    }
    line = _plain_line({**entry, "model": "m\n2026 forged\x1b[2J\u2028"})
    assert line.isprintable()
    assert line.endswith(r"model=m\n2026 forged\x1b[2J\u2028")
    assert _path({"raw_path": b'/a" 200 1ms id=x', "path": ""}) == "/a%22 200 1ms id=x"


def test_a_line_that_comes_while_others_are_written_and_the_log_is_closed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = AccessLogFile(tmp_path / "access.log", as_json=True)
    writing, go_on = threading.Event(), threading.Event()
    handle = log._handler.handle

    def held(record: Any) -> Any:
        writing.set()
        assert go_on.wait(30)
        return handle(record)

    monkeypatch.setattr(log._handler, "handle", held)
    log.write({"id": "first"})
    assert writing.wait(30)
    log.write({"id": "second"})
    closer = threading.Thread(target=log.close)
    closer.start()
    assert log._closing.wait(30)
    go_on.set()
    closer.join(30)
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["first", "second"]

"""server.verbose: what the terminal of a server shows of requests and loads."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from lqmf_runner.config import ServerConfig
from lqmf_runner.server.watch.access_log import AccessLogFile, open_access_log
from lqmf_runner.server.watch.screen import request_line, shown_loads

from ...support.server.fakes import fake_server

ENTRY = {
    "time": "t", "client": "c", "key": None, "method": "POST", "path": "/v1/completions", "status": 200,
    "duration_ms": 411.7,
}  # fmt: skip


def test_a_line_has_what_was_asked_and_what_it_took():
    assert request_line(ENTRY)[9:] == "POST /v1/completions 200 412 ms"
    answered = {**ENTRY, "model": "m", "output_tokens": 64, "error": "EngineLostError"}
    assert request_line(answered)[9:] == "POST /v1/completions 200 412 ms m 64 tokens EngineLostError"
    assert request_line({**ENTRY, "path": "/\x1b[2J"}).isprintable()


@pytest.mark.parametrize("access_log", ["plain", "off"])
def test_verbose_shows_requests_with_and_without_a_file(
    access_log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = ServerConfig(access_log=access_log, verbose=True)
    with open_access_log(config, tmp_path) as log:
        assert log is not None
        log.write(dict(ENTRY, id="x"))
        log.write(dict(ENTRY, id="y", path="/health"))
    said = capsys.readouterr().err
    assert "POST /v1/completions 200 412 ms" in said
    assert "/health" not in said
    assert (tmp_path / "access.log").exists() == (access_log == "plain")
    with open_access_log(ServerConfig(access_log="off"), tmp_path) as log:
        assert log is None


def test_a_terminal_that_is_gone_is_left_alone(tmp_path: Path):
    screen = io.StringIO()
    screen.close()
    log = AccessLogFile(tmp_path / "access.log", screen=screen)
    log.write(dict(ENTRY, id="a"))
    log.write(dict(ENTRY, id="b"))
    log.close()
    assert len((tmp_path / "access.log").read_text().splitlines()) == 2


async def test_loads_and_unloads_are_shown(capsys: pytest.CaptureFixture[str]):
    logging.getLogger("lqmf_runner").setLevel(logging.INFO)
    with shown_loads(True):
        async with fake_server() as (client, _):
            await client.post("/models/m/load")
            await client.post("/models/m/unload")
    said = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert said == ["loading m", "m is loaded, 100 MB", "m is unloaded"]
    with shown_loads(False):
        async with fake_server() as (client, _):
            await client.post("/models/m/load")
    assert capsys.readouterr().err == ""

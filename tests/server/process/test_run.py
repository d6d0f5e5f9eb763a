"""Starting, stopping and breaking real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lqmf_runner.server.process.registry import ServerRecord, process_start

from ...support.ports import free_port
from ...support.processes import wait_until_gone
from ...support.server.processes import CHAT, MODEL, SECOND, Program, chat_body

LONG = {"max_tokens": 400, "ignore_eos": True}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("program"))
    yield program
    program.run("mode=stop", "mode.all=true", "mode.force=true")


def test_in_the_background_it_is_found_and_stopped_again(program: Program) -> None:
    assert program.run("mode=status").returncode == 1
    port = free_port()
    arguments = ("mode=serve", "model=local", f"model.name={MODEL}", f"server.port={port}")
    started = program.run(*arguments, "server.background=true")
    assert started.returncode == 0, started.stderr
    assert f"http://127.0.0.1:{port}" in started.stdout
    try:
        # It returned when the server was ready, and not before.
        assert httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).status_code == 200
        (server,) = program.servers()
        assert (server["port"], server["state"], server["models"]) == (port, "ready", [MODEL])
        assert server["health_ms"] is not None
        assert os.getsid(server["pid"]) == server["pid"]  # a terminal that closes does not take it along

        for background in ("true", "false"):
            second = program.run(*arguments, f"server.background={background}")
            assert second.returncode == 2
            assert f"process {server['pid']}" in second.stderr
            assert f"`lqmf stop {port}`" in second.stderr
        elsewhere = program.run("mode=stop", f"server.port={port ^ 1}")
        assert elsewhere.returncode == 2
        assert f"lqmf stop {port}" in elsewhere.stderr
    finally:
        stopped = program.run("mode=stop", "mode.format=json")
    assert json.loads(stopped.stdout)["stopped"][0]["pid"] == server["pid"]
    assert process_start(server["pid"]) is None
    assert program.servers() == []
    assert program.run("mode=stop").returncode == 0
    log = Path(server["run_dir"]) / "server.log"
    assert f"http://127.0.0.1:{port}" in log.read_text()


def test_a_start_that_fails_in_the_background_says_why(program: Program) -> None:
    failed = program.run(
        "mode=serve", "model=local", "model.name=nowhere", "server.port=0", "server.background=true"
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert "nowhere" in failed.stderr
    assert program.servers() == []


def test_the_network_is_refused_without_keys(program: Program) -> None:
    refused = program.run("mode=serve", "model=null", "server.host=0.0.0.0", "server.port=0")
    assert refused.returncode == 2
    assert "keys" in refused.stderr


def test_a_signal_lets_requests_end_and_refuses_new_ones(program: Program) -> None:
    with program.serve() as server:
        (worker,) = server.workers()
        with server.held() as held, server.stream(**LONG) as answer:
            events = answer.iter_lines()
            next(events)
            server.process.send_signal(signal.SIGTERM)
            server.wait_until_draining()
            refused = httpx.post(f"{server.url}{CHAT}", json=chat_body(), timeout=60, trust_env=False)
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert httpx.get(f"{server.url}/health", timeout=60, trust_env=False).status_code == 200
            rest = list(events)
            assert "data: [DONE]" in rest
            assert '"finish_reason":"length"' in "".join(rest)
            assert server.process.poll() is None
            assert held.finish().startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0
        wait_until_gone(worker)
    assert program.servers() == []


def test_what_does_not_end_in_time_is_told_so(program: Program) -> None:
    with program.serve("server.drain_timeout_s=0.2") as server:
        with server.held() as held:
            server.process.send_signal(signal.SIGTERM)
            answer = held.answer()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"stopped" in answer
        assert server.process.wait(60) == 0


def test_a_signal_while_a_model_is_loading_is_a_plain_end(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        command = program.command("mode=serve", "server.port=0", "model=openai", f"backend.base_url={url}")
        with subprocess.Popen(
            command,
            cwd=program.folder,
            env=program.env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            silent.settimeout(60)
            with silent.accept()[0]:  # the model is being loaded, and will be for minutes
                process.send_signal(signal.SIGTERM)
                assert process.communicate(timeout=60) == ("", "")
            assert process.returncode == 0


def test_a_second_signal_ends_it_at_once_and_leaves_no_worker(program: Program) -> None:
    with program.serve("server.drain_timeout_s=1000") as server:
        (worker,) = server.workers()
        with server.held():
            server.process.send_signal(signal.SIGTERM)
            server.wait_until_draining()
            assert server.end() == 128 + signal.SIGTERM
        wait_until_gone(worker)
    assert program.servers() == []


def test_a_server_that_is_killed_leaves_no_worker_and_no_record_that_counts(program: Program) -> None:
    with program.serve() as server:
        (worker,) = server.workers()
        server.end(signal.SIGKILL)
        wait_until_gone(worker)
    assert program.servers() == []
    assert not list((program.folder / "records").glob("*.json"))


def test_a_number_that_was_given_out_again_is_not_taken_for_the_server(program: Program) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        start = process_start(other.pid)
        assert start is not None
        record = ServerRecord(
            pid=other.pid, process_start=start - 1, host="127.0.0.1", port=8000, url="http://127.0.0.1:1",
            run_dir="", started_at="2026-01-01T00:00:00", version="0", models=[],
        )  # fmt: skip
        path = program.folder / "records" / f"server-{other.pid}.json"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(json.dumps({f: getattr(record, f) for f in record.__struct_fields__}))
        assert program.run("mode=stop", "mode.all=true").returncode == 0
        assert other.poll() is None
        assert not path.exists()
        other.kill()


def test_a_worker_that_is_killed_fails_its_requests_alone_and_comes_back(program: Program) -> None:
    with program.serve() as server:
        assert server.chat(SECOND).status_code == 200
        first, second = server.workers()
        with server.stream(**LONG, n=8) as broken, server.stream(SECOND, **LONG) as other:
            events, others = broken.iter_lines(), other.iter_lines()
            next(events)
            next(others)
            os.kill(first, signal.SIGKILL)
            last = [line for line in events if line][-1]
            assert "error" in json.loads(last.removeprefix("data: "))
            assert server.client.get("/health").status_code == 200
            assert "data: [DONE]" in list(others)
        while (again := server.chat()).status_code == 503:  # while it is loaded anew
            assert int(again.headers["retry-after"]) >= 1
        assert again.status_code == 200
        assert second in server.workers()
        assert first not in server.workers()


def test_health_answers_while_the_models_are_busy(program: Program) -> None:
    """50 ms is the promise; a machine that many share may take longer, ten times as long would be a stall."""
    with program.serve() as server:
        busy = threading.Thread(target=lambda: server.chat(**LONG, n=8))
        busy.start()
        times = []
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            while busy.is_alive() or not times:
                began = time.perf_counter()
                assert client.get("/health").status_code == 200
                times.append(time.perf_counter() - began)
        busy.join()
    times.sort()
    assert times[len(times) // 2] < 0.5


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https(program: Program) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=program.folder, check=True, capture_output=True,
    )  # fmt: skip
    refused = program.run("mode=serve", "model=null", "server.certfile=key.pem", "server.port=0")
    assert refused.returncode == 2
    assert "server.certfile" in refused.stderr
    with program.serve("server.certfile=cert.pem", "server.keyfile=key.pem") as server:
        assert server.url.startswith("https://")
        assert server.chat().status_code == 200
        assert server.end() == 0


def test_keys_are_made_listed_removed_and_asked_for(program: Program) -> None:
    made = program.run("mode=keys", "mode.add=alice", "server.keys_file=k.json")
    key = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    assert (key.startswith("lqmf-"), "k.json" in made.stderr, key in made.stderr) == (True, True, False)
    assert program.run("mode=keys", "server.keys_file=k.json").stdout == "alice\tuse\n"
    with program.serve("server.keys_file=k.json") as server:
        assert "Authorization: Bearer <key>" in server.announcement
        assert server.chat().status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert server.client.post(CHAT, json=chat_body(), headers=headers).status_code == 200
        assert server.client.post(f"/models/{MODEL}/unload", headers=headers).status_code == 403
        removed = program.run("mode=keys", "mode.remove=alice", "server.keys_file=k.json")
        assert (removed.returncode, "no key is left" in removed.stderr) == (0, True)
        while server.client.get("/models", headers=headers).status_code != 401:
            pass
    left = [
        path
        for path in program.folder.rglob("*")
        if path.is_file() and key in path.read_text("utf-8", "replace")
    ]
    assert left == []


def test_in_front_of_another_server_it_is_like_with_a_model_of_its_own(program: Program) -> None:
    key = {"authorization": "Bearer front"}
    with program.serve(LQMF_API_KEYS="back") as back:
        endpoint = (
            f"backend.base_url={back.url}/v1", f"backend.remote_model={MODEL}", "backend.api_key_env=BACK_KEY",
        )  # fmt: skip
        with program.serve(
            *endpoint, model=["model=openai"], LQMF_API_KEYS="front", BACK_KEY="back"
        ) as front:
            assert front.chat("openai").status_code == 401
            front.client.headers.update(key)
            assert front.chat("openai").json()["usage"]["completion_tokens"] == 4
            with front.stream("openai", stream_options={"include_usage": True}) as answer:
                events = [line for line in answer.iter_lines() if line]
            assert events[-1] == "data: [DONE]"
            assert json.loads(events[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 4
            assert front.chat("openai", temperature=3).status_code == 400
            long = front.chat("openai", messages=[{"role": "user", "content": "x" * 9000}])
            assert long.status_code == 400
            assert "context" in long.json()["error"]["message"]
            counted = front.client.get("/stats").json()["models"]["openai"]
            assert counted["requests"] == {"ok": 2, "failed": 0, "refused": 1, "cancelled": 0}
            assert counted["output_tokens"] == 8
            assert counted["ttft_s"]["count"] == 2

            with front.stream("openai", **LONG, n=8) as broken:
                events = broken.iter_lines()
                next(events)
                back.end(signal.SIGKILL)
                last = [line for line in events if line][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
            gone = front.chat("openai")
            assert gone.status_code == 502
            assert back.url.split(":")[-1] not in gone.text
            assert front.client.get("/health").status_code == 200


def test_a_server_whose_page_is_not_installed_says_how_to_install_it(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['gradio'] = None")
    path = f"{tmp_path}{os.pathsep}{program.env['PYTHONPATH']}"
    with program.serve(model=["model=null"], PYTHONPATH=path) as server:
        assert "no page without the package gradio: " in server.announcement
        assert "pip install -e '.[ui]'" in server.announcement
    with program.serve("server.ui=false", model=["model=null"], PYTHONPATH=path) as server:
        assert "page" not in server.announcement

"""Stores of MLflow for many: a PostgreSQL and an MLflow server as real processes on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port

PASSWORD = "s3cret-pw"
_WAIT_S = 60.0


class Postgres:
    """A server with the user `lqmf`, which logs in with `PASSWORD`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        import psycopg

        options = ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=200")
        settings = [word for option in options for word in ("-c", option)]
        command = [
            _program("postgres"),
            "-D",
            f"{self._folder}/data",
            "-p",
            f"{self.port}",
            "-k",
            self._folder,
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *settings], stdout=log, stderr=log, user=_user())
        _wait_for(self.port, self._process)
        for _ in range(600):
            try:
                psycopg.connect(self.uri("postgres")).close()
                return
            except psycopg.OperationalError:  # it listens before it is ready
                time.sleep(0.05)
        raise RuntimeError("PostgreSQL does not get ready")

    def stop(self) -> None:
        """End it at once, as a machine that fails."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_WAIT_S)
            self._process = None

    def freeze(self) -> None:
        """Stop all of its processes: it takes connections and answers nothing."""
        _signal_all(self._process, signal.SIGSTOP)

    def kill(self) -> None:
        """End all of its processes at once, frozen or not."""
        _signal_all(self._process, signal.SIGKILL)
        self._process = None

    def database(self, name: str) -> str:
        """The URI of a new, empty database."""
        import psycopg

        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        return self.uri(name)

    def uri(self, name: str) -> str:
        """The URI of a database."""
        return f"postgresql://lqmf:{PASSWORD}@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL in a folder of its own; skips where the program or its driver is missing."""
    pytest.importorskip(
        "psycopg", reason="the driver of PostgreSQL is not installed: pip install psycopg[binary]"
    )
    initdb = _program("initdb")
    # Sockets have short paths, and PostgreSQL does not run as root: the folder is the other user's.
    folder = Path(tempfile.mkdtemp(prefix="lqmf-pg-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if (user := _user()) is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        command = [
            initdb,
            "-D",
            f"{folder}/data",
            "-U",
            "lqmf",
            "-A",
            "scram-sha-256",
            "--pwfile",
            secret,
            "-N",
        ]
        subprocess.run([*command, "-E", "UTF8"], check=True, capture_output=True, user=user)
        server = Postgres(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


class MlflowServer:
    """An `mlflow server` on a store, which keeps the artifacts of its clients in the folder."""

    def __init__(self, store: str, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._store,
            "--artifacts-destination", str(self._folder),
            "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1",
        ]  # fmt: skip
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that import MLflow, for nothing here
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **quiet}, cwd=self._folder, start_new_session=True
            )  # fmt: skip
        _wait_for(self._port, self._process)
        with urllib.request.urlopen(f"{self.address}/health", timeout=_WAIT_S) as answer:
            assert answer.status == 200

    def freeze(self) -> None:
        """Stop all of its processes: it takes connections and answers nothing."""
        _signal_all(self._process, signal.SIGSTOP)

    def kill(self) -> None:
        """End all of its processes at once. Asked to end, it would wait for open connections."""
        _signal_all(self._process, signal.SIGKILL)
        self._process = None


@contextlib.contextmanager
def running_mlflow_server(store: str, folder: Path) -> Iterator[MlflowServer]:
    """A server that answers."""
    server = MlflowServer(store, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _signal_all(process: subprocess.Popen[bytes] | None, number: int) -> None:
    """Send a signal to a process and to all that it has started; wait for the end of those it ends."""
    if process is None:
        return
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)
    if number == signal.SIGKILL:
        process.wait(_WAIT_S)
        psutil.wait_procs(family[1:], _WAIT_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def _program(name: str) -> str:
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install postgresql)")
    return found


def _user() -> str | None:
    """Who runs PostgreSQL, if we are root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"

"""The port for workers: a token counts once, and nothing else of a stranger is read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Any

import pytest
import uvloop

from lqmf_runner.engine import protocol
from lqmf_runner.engine.connection import Connection
from lqmf_runner.engine.placement import port as placement_port
from lqmf_runner.engine.placement.port import TOKEN_BYTES, WorkerPort
from lqmf_runner.errors import UserInputError

PONG = protocol.frame([protocol.Pong()])


def connection() -> Connection:
    return Connection(lambda: None)


async def closed_by_port(port: WorkerPort, greeting: bytes) -> bool:
    reader, writer = await asyncio.open_connection(*port.address)
    writer.write(greeting)
    try:
        async with asyncio.timeout(5):
            return await reader.read() == b""
    except ConnectionResetError:
        return True
    finally:
        writer.close()


@pytest.fixture
async def port() -> WorkerPort:
    return await WorkerPort.open("127.0.0.1", 0, tls=False)


async def test_a_token_admits_its_worker_and_what_follows_is_read(port: WorkerPort) -> None:
    ours = connection()
    with port.expect(ours) as (token, connected):
        _, writer = await asyncio.open_connection(*port.address)
        writer.write(token[:7])
        await writer.drain()
        writer.write(token[7:] + PONG)
        async with asyncio.timeout(5):
            await connected
            while not ours.heard:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert await closed_by_port(port, token)  # a second time
    writer.close()
    port.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_worker_is_taken_under_the_servers_event_loop_too(tls: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(talk(tls))


async def talk(tls: bool) -> None:
    """A worker's first words reach its connection, and what is sent there reaches the worker."""
    port = await WorkerPort.open("127.0.0.1", 0, tls=tls)
    ours, context = connection(), trusting(port) if tls else None
    with port.expect(ours) as (token, connected):
        reader, writer = await asyncio.open_connection(*port.address, ssl=context)
        writer.write(token + PONG)
        async with asyncio.timeout(5):
            await connected
            while not ours.heard:  # noqa: ASYNC110
                await asyncio.sleep(0)
            ours.send(protocol.Ping())
            expected = protocol.frame([protocol.Ping()])
            assert await reader.readexactly(len(expected)) == expected
    writer.close()
    port.close()


async def test_a_stranger_is_turned_away_and_disturbs_nobody(port: WorkerPort) -> None:
    ours = connection()
    with port.expect(ours) as (_, connected):
        assert await closed_by_port(port, b"\0" * TOKEN_BYTES + PONG)
        assert await closed_by_port(port, b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n")
        assert not connected.done()
        assert not ours.heard
    port.close()


async def test_a_token_that_nobody_waits_for_any_more_is_none(port: WorkerPort) -> None:
    with port.expect(connection()) as (token, _):
        pass
    assert await closed_by_port(port, token)
    port.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("tls", [False, True])
def test_strangers_that_say_nothing_are_bounded_and_keep_no_worker_out(
    loop: Any, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_port, "MOST_GREETINGS", 4)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(crowded(tls))


async def crowded(tls: bool) -> None:
    port = await WorkerPort.open("127.0.0.1", 0, tls=tls)
    ours = connection()
    with port.expect(ours) as (token, connected):
        strangers = [await asyncio.open_connection(*port.address) for _ in range(7)]
        async with asyncio.timeout(5):
            for reader, _ in strangers[:3]:  # the oldest are closed
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            _, writer = await asyncio.open_connection(*port.address, ssl=trusting(port) if tls else None)
            writer.write(token)
            await connected
        assert [reader.at_eof() for reader, _ in strangers[-3:]] == [False] * 3
        port.close()
        async with asyncio.timeout(5):
            for reader, _ in strangers[3:]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
        assert ours.transport is not None
        assert not ours.transport.is_closing(), "a worker stays"
    for _, each in (*strangers, (None, writer)):
        each.close()


def trusting(port: WorkerPort) -> ssl.SSLContext:
    """A worker's context: it accepts the port's certificate alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=port.certificate)
    return context


async def test_with_tls_only_its_own_certificate_is_shown() -> None:
    port = await WorkerPort.open("127.0.0.1", 0, tls=True)
    other = await WorkerPort.open("127.0.0.1", 0, tls=True)
    for trusted in (True, False):
        context = trusting(port if trusted else other)
        if trusted:
            ours = connection()
            with port.expect(ours) as (token, connected):
                _, writer = await asyncio.open_connection(*port.address, ssl=context)
                writer.write(token)
                await asyncio.wait_for(connected, 5)
                writer.close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(*port.address, ssl=context)
    port.close()
    other.close()


async def test_a_port_that_is_taken_is_said(port: WorkerPort) -> None:
    with pytest.raises(UserInputError, match=str(port.address[1])) as caught:
        await WorkerPort.open("127.0.0.1", port.address[1], tls=False)
    assert "ray.listen_port" in caught.value.hint
    port.close()


async def test_a_process_with_too_many_open_files_listens_on(
    port: WorkerPort, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placement_port, "_ACCEPT_AGAIN_S", 0.01)
    accept, refusals = socket.socket.accept, iter([OSError(errno.EMFILE, "Too many open files")])

    def refuse_once(self: socket.socket) -> Any:
        for error in refusals:
            raise error
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", refuse_once)
    with port.expect(connection()) as (token, connected):
        _, writer = await asyncio.open_connection(*port.address)
        writer.write(token)
        await asyncio.wait_for(connected, 5)
    assert "Too many open files" in caplog.text
    writer.close()
    port.close()

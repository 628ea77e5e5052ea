"""TLS on the public listener."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
import warnings
from pathlib import Path

import pytest
import websockets
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support import aio
from tests.support.certificates import client_context, make_certificate
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import CLOSE, TEXT, frame, upgrade

DEADLINE = 1.5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(shared_program: Start, certificate: tuple[Path, Path]) -> Process:
    path, key = certificate
    return shared_program(
        "-m tests.support.handlers",
        {
            "tls": {"certificate": str(path), "key": str(key)},
            "server": {"handshake_timeout": DEADLINE, "close_timeout": 0.5},
            "limits": {"per_ip": 1000},
            "messages": {"max_size": 32 << 20, "per_second": 0, "bytes_per_second": 0},
            "outbox": {"max_bytes": 64 << 20},
        },
    )


@pytest.fixture(scope="module")
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return client_context(certificate[0])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_and_tickets(
    server: Process, certificate: tuple[Path, Path], version: ssl.TLSVersion
) -> None:
    context = client_context(certificate[0], version)
    session = None
    for turn in range(2):
        plain = socket.create_connection(("127.0.0.1", server.port), 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
            assert sock.version() == version.name.replace("_", ".")
            assert sock.session_reused == bool(turn)
            # The tickets of TLS 1.3 come after the handshake, with the first bytes.
            sock.sendall(upgrade() + frame(CLOSE, b"\x03\xe8"))
            data = b""
            while not data.endswith(b"\x88\x02\x03\xe8"):
                more = sock.recv(65536)
                assert more, data
                data += more
            session = sock.session
            assert session is not None
            assert session.has_ticket


def test_old_versions_are_refused(server: Process, certificate: tuple[Path, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = client_context(certificate[0])
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    # So that it is not this side that refuses.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.connect(tls=context)
    assert_serves(server, certificate[0])


def assert_serves(server: Process, certificate: Path) -> None:
    context = client_context(certificate)
    with connect(server.url, proxy=None, ssl=context, server_hostname="localhost") as client:
        client.send("fine")
        assert client.recv(20) == "fine"


def test_large_messages_both_ways(server: Process, context: ssl.SSLContext) -> None:
    async def run() -> None:
        async with websockets.connect(
            server.url, proxy=None, ssl=context, max_size=None, compression=None
        ) as client:
            for message in (os.urandom(16 << 20), "x" + "ü" * (4 << 20), os.urandom(17_000)):
                await client.send(message)
                assert await asyncio.wait_for(client.recv(), 30) == message

    aio.run(run())


def test_many_small_messages_in_one_record(server: Process, context: ssl.SSLContext) -> None:
    frames = b"".join(frame(TEXT, b"%d" % number) for number in range(1500))
    with server.connect(tls=context) as raw:
        raw.send(upgrade() + frames)
        assert raw.response().status == 101
        assert [raw.message() for _ in range(1500)] == [str(n) for n in range(1500)]


@pytest.mark.parametrize("size", [16_384, 16_385, 65_536, 65_537, 200_000])
def test_messages_around_the_size_of_a_record(
    server: Process, context: ssl.SSLContext, size: int
) -> None:
    message = os.urandom(size)
    with server.connect(tls=context) as raw:
        raw.open()
        raw.send_frame(2, message)
        # Nothing else comes, so nothing may be left in the decrypted bytes.
        assert raw.message() == message


def test_a_client_byte_by_byte(server: Process, context: ssl.SSLContext) -> None:
    with server.connect(tls=context) as raw:
        for byte in upgrade() + frame(TEXT, b"one record each"):
            raw.send(bytes([byte]))
        assert raw.response().status == 101
        assert raw.message() == "one record each"


def test_many_at_once(server: Process, context: ssl.SSLContext) -> None:
    async def client(number: int) -> None:
        async with websockets.connect(
            server.url, proxy=None, ssl=context, open_timeout=30
        ) as connection:
            await connection.send(str(number))
            assert await connection.recv() == str(number)

    async def run() -> None:
        await asyncio.gather(*map(client, range(60)))

    aio.run(run())
    server.wait_open(0)


def test_the_handshake_has_a_deadline(server: Process, context: ssl.SSLContext) -> None:
    hello = client_hello(context)
    with server.connect() as silent, server.connect() as half:
        started = time.monotonic()
        half.send(hello[: len(hello) // 2])
        assert silent.gone()
        assert half.gone()
        assert time.monotonic() - started < DEADLINE + 3
    # The time for TLS and for the request is one and the same.
    with server.connect(tls=context) as raw:
        started = time.monotonic()
        raw.send(upgrade()[:30])
        assert raw.response().status == 408
        assert time.monotonic() - started < DEADLINE + 1


def client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    sock = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        sock.do_handshake()
    return outgoing.read()


def test_refusals_arrive(server: Process, context: ssl.SSLContext) -> None:
    with server.connect(tls=context) as raw:
        raw.send(upgrade(replace={"Sec-WebSocket-Version": "8"}) + bytes(50_000))
        assert raw.response().status == 426
        assert raw.end() == b""


def test_plain_http_on_the_tls_port(server: Process, certificate: tuple[Path, Path]) -> None:
    with server.connect() as raw:
        raw.send(upgrade())
        started = time.monotonic()
        assert raw.gone()
        assert time.monotonic() - started < DEADLINE
    assert_serves(server, certificate[0])


def test_closing(server: Process, context: ssl.SSLContext) -> None:
    with server.connect(tls=context) as raw:
        raw.open()
        raw.send_frame(TEXT, "close 4000 so long")
        assert raw.closed(4000).reason == "so long"
        raw.send_close(4000)
        assert raw.end() == b""
    with server.connect(tls=context) as raw:
        raw.open()
        raw.send(frame(TEXT, b"x", masked=False) + bytes(50_000))
        assert raw.closed(1002)
    for leave in ("close", "reset", "half_close"):
        raw = server.connect(tls=context).open()
        getattr(raw, leave)()
        raw.close()
    server.wait_open(0)


def test_a_peer_that_never_reads(
    serve: Start, certificate: tuple[Path, Path], program: Start
) -> None:
    path, key = certificate
    server = program(
        "-m tests.support.handlers",
        {
            "tls": {"certificate": str(path), "key": str(key)},
            "outbox": {"max_bytes": 1 << 20},
            "server": {"close_timeout": 0.5},
        },
    )
    with server.connect(tls=client_context(path), receive_buffer=4096) as slow:
        slow.open()
        slow.send_frame(TEXT, "flood 200 100000")
        server.wait_open(0)
    assert server.stats()["disconnections"]["slow_consumer"] == 1
    assert_serves(server, path)


def test_metrics(server: Process, context: ssl.SSLContext) -> None:
    name = "websocket_tls_handshake_duration_seconds_count"
    before = server.metrics()[name]
    with server.connect(tls=context) as raw:
        raw.open()
    wait_until(lambda: server.metrics()[name] == before + 1)

"""TLS connections: what encryption does to partial writes, and how they end."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw import upgrade
from tests.unit.engine.live import Live, run, until
from tidegate.engine.tls import TlsSocket, server_context
from tidegate.errors import ConfigError

x509 = pytest.importorskip("cryptography.x509")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a certificate and its key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    folder: Path = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "certificate.pem"), str(folder / "key.pem")


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def pair(files: tuple[str, str]) -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    """A server's and a client's end, past the handshake; the kernel holds little between them."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = TlsSocket(ours, server_context(*files))
    client = client_context().wrap_socket(
        theirs, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    left: list[Any] = [server.handshake, client.do_handshake]
    while left:
        step = left.pop(0)
        try:
            assert not step()
        except (BlockingIOError, ssl.SSLWantReadError):
            left.append(step)
    yield server, client
    server.close()
    client.close()


def read(client: ssl.SSLSocket) -> bytes:
    """All that is there."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ssl.SSLWantReadError:
        pass
    return data


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 40_000, 1_000_000])
@pytest.mark.parametrize("offered", [1 << 30, 65_536, 17_000])
def test_a_write_in_parts(pair: tuple[TlsSocket, ssl.SSLSocket], size: int, offered: int) -> None:
    """What is left may be offered in parts of another size, and arrives once."""
    server, client = pair
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    sent, got = 0, b""
    try:
        sent = server.send(data)  # all of it the first time, as a connection does
    except BlockingIOError:
        assert size > 1
    while sent < size:
        got += read(client)
        try:
            sent += server.send(data[sent : sent + offered])
        except BlockingIOError:
            continue
    assert got + read(client) == data


def test_a_peer_that_leaves_without_a_word(pair: tuple[TlsSocket, ssl.SSLSocket]) -> None:
    server, client = pair
    with pytest.raises(BlockingIOError):
        server.recv(100)
    socket.socket.shutdown(client, socket.SHUT_WR)
    assert server.recv(100) == b""
    assert server.recv(100) == b""


def test_a_server_that_leaves_says_so(pair: tuple[TlsSocket, ssl.SSLSocket]) -> None:
    server, client = pair
    server.send(b"last words")
    server.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b"last words"
    assert client.recv(100) == b""  # close_notify: without it this would be an error


def test_files_that_cannot_be_used(files: tuple[str, str]) -> None:
    certificate, key = files
    for wrong in ((certificate, key + "x"), (key, certificate)):
        with pytest.raises(ConfigError, match=r"tls\.certificate = .*tls\.key = "):
            server_context(*wrong)


# Connections.


async def connect(live: Live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = live.node.addresses[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=client_context(), limit=4096)
    writer.write(upgrade())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return reader, writer


def test_a_large_message_over_tls(files: tuple[str, str]) -> None:
    async def main() -> None:
        tls = {"certificate": files[0], "key": files[1]}
        async with Live({"tls": tls, "outbox": {"max_bytes": 1 << 24}}) as live:
            reader, writer = await connect(live)
            (connection,) = live.recorder.connections
            message = bytes(range(256)) * 40_000
            connection.send(message)
            assert connection.buffered > 0
            connection.send("behind")
            connection.ping(b"\x89\x00")
            head = await reader.readexactly(10)
            assert int.from_bytes(head[2:]) == len(message)
            assert await reader.readexactly(len(message)) == message
            assert await reader.readexactly(10) == b"\x89\x00\x81\x06behind"
            connection.close(4000)
            assert await reader.readexactly(4) == b"\x88\x02\x0f\xa0"
            writer.transport.abort()
            await live.ended(connection)

    run(main())


def test_a_slow_peer_over_tls_is_cut_off(files: tuple[str, str]) -> None:
    async def main() -> None:
        tls = {"certificate": files[0], "key": files[1]}
        async with Live({"tls": tls, "outbox": {"max_bytes": 1 << 16}}) as live:
            _, writer = await connect(live)
            (connection,) = live.recorder.connections
            for _ in range(1000):
                connection.send(bytes(60_000))
            assert await live.ended(connection) == (1006, "")
            assert live.node.stats.disconnected["slow_consumer"] == 1
            writer.transport.abort()
            await until(lambda: writer.transport.is_closing())

    run(main())

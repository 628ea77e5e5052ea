"""One connection of the Python client, with servers that are slow or quiet."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.aio import in_loop
from tests.support.certificates import client_context, make_certificate
from tidegate.client import ClientClosed, ClientError, State, StateChange, connect

PATIENCE = 30.0
Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """A server of one handler, behind `connected`; its URL."""

    async def handle(connection: ServerConnection) -> None:
        settings = {"pingInterval": 2.0, "maxMessageSize": 1 << 20}
        await connection.send(json.dumps({"type": "connected", "settings": settings}))
        await handler(connection)

    protocols = [Subprotocol("tidegate.v1.json")]
    async with serve(handle, "127.0.0.1", 0, subprotocols=protocols, **options) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


async def hear(connection: ServerConnection, tell: Callable[[Any], None]) -> None:
    async for text in connection:
        tell(json.loads(text))


@in_loop
async def test_messages_wait_while_the_network_takes_none() -> None:
    read = asyncio.Event()
    got: list[int] = []

    async def handler(connection: ServerConnection) -> None:
        await read.wait()
        await hear(connection, lambda message: got.append(message["data"][0]))

    async with (
        server(handler, compression=None) as url,
        connect(url, codec="json", queue_size=3, max_buffered=1000) as client,
    ):
        sent: list[asyncio.Task[Any]] = []
        # Sockets on both sides take some megabytes, and then nothing.
        refused: BaseException | None = None
        while refused is None and len(sent) < 1000:
            data = [len(sent), "x" * 100_000]
            sent.append(asyncio.create_task(client.direct("ann", data, ack=False)))
            await asyncio.sleep(0)
            refused = sent[-1].exception() if sent[-1].done() else None
        assert isinstance(refused, ClientError)
        assert refused.code == "queue_full"
        read.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*sent[:-1])
            while len(got) < len(sent) - 1:
                await asyncio.sleep(0.01)
        assert got == list(range(len(sent) - 1))


@in_loop
async def test_pings_of_the_server_are_signs_of_life() -> None:
    asked: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        await hear(connection, lambda message: asked.append(message["type"]))

    async with server(handler, ping_interval=0.2) as url, connect(url, codec="json"):
        await asyncio.sleep(3)
        assert asked == []
    async with server(handler, ping_interval=None) as url, connect(url, codec="json"):
        async with asyncio.timeout(PATIENCE):
            while not asked:
                await asyncio.sleep(0.01)
        assert set(asked) == {"health_ping"}


@in_loop
async def test_server_that_never_ends_its_connection_does_not_hold_the_client() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    stalled = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with stalled, asyncio.timeout(PATIENCE):
        with pytest.raises(ClientClosed, match="HTTP 403"):
            async with connect(f"ws://127.0.0.1:{stalled.sockets[0].getsockname()[1]}"):
                pass


@in_loop
async def test_redirect_is_not_followed() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    elsewhere = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with elsewhere, asyncio.timeout(PATIENCE):
        with pytest.raises(ClientClosed, match="HTTP 302"):
            async with connect(f"ws://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}"):
                pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"token": "not a token"}, "The token has characters that cannot be sent"),
        ({"proxy": "gopher://a"}, "isn't a valid proxy"),
    ],
)
@in_loop
async def test_what_cannot_get_better_is_not_tried_again(options: Any, says: str) -> None:
    with pytest.raises(ClientClosed, match=says) as closed:
        async with connect("ws://127.0.0.1:1", **options):
            pass
    assert closed.value.loss is not None
    assert closed.value.loss.error == "unsupported"


@in_loop
async def test_lost_server_is_told_with_what_the_system_says() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with server(handler) as url:
        client = connect(url, codec="json")
        states = client.events(StateChange)
        client.start()
        async for change in states:
            if change.state is State.BACKOFF:
                assert change.loss is not None
                assert change.loss.code == 1006
                break
        await client.close()


@in_loop
async def test_tls_context_and_proxy_are_passed_on(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[0])
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        there, out = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, out), copy(there, writer))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    trusted = client_context(certificate)
    async with proxy, server(lambda one: one.wait_closed(), ssl=context) as url:
        secure = url.replace("ws:", "wss:")
        async with connect(secure, codec="json", ssl=trusted, proxy=where) as client:
            assert client.state is State.OPEN
        assert asked == [b"CONNECT"]
        client = connect(secure, codec="json")
        states = client.events(StateChange)
        client.start()
        await anext(states)
        change = await anext(states)
        assert change.loss is not None
        assert "CERTIFICATE_VERIFY_FAILED" in str(change.loss)
        await client.close()


@in_loop
async def test_eager_tasks_change_nothing() -> None:
    factory = getattr(asyncio, "eager_task_factory", None)  # Python 3.12
    asyncio.get_running_loop().set_task_factory(factory)
    client = connect("ws://127.0.0.1:1", token=lambda: "not a token")
    states = client.events(StateChange)
    client.start()
    assert (await anext(states)).state is State.CONNECTING
    assert (await anext(states)).state is State.CLOSED
    with pytest.raises(ClientClosed, match="cannot be sent"):
        await anext(states)

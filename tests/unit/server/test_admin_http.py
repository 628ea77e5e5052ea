"""The admin listener's own HTTP: time, on a real loop and with short deadlines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from tidegate.core.settings import AdminSettings
from tidegate.server import admin_http
from tidegate.server.admin_http import BadRequests
from tidegate.server.listener import serve_admin

SECONDS = 5.0
LOCAL = AdminSettings(port=0)
HEAD = b"Host: a\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """What each path does to its client."""
    path = scope["path"]
    if path == "/never":
        await asyncio.Event().wait()
    if path == "/body":
        while (await receive())["type"] == "http.request":
            pass
        return
    body = b"x" * (32 << 20 if path == "/large" else 2)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came up to the end of the connection, however it ended."""
    data = b""
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(1 << 20):
                data += more
    return data


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\n" + HEAD,
        b"GET / HTTP/1.1\r\n" + HEAD + b"GET / HTTP/1.1\r\nHos",
        b"GET /never HTTP/1.1\r\n" + HEAD,
        b"GET /large HTTP/1.1\r\n" + HEAD,
        b"POST /body HTTP/1.1\r\nContent-Length: 9\r\n" + HEAD + b"x",
        b"GET / HTTP/1.1\r\nContent-Length: 9\r\n" + HEAD + b"x",
    ],
    ids=[
        *("nothing", "half a head", "answered", "half of a second head", "no answer", "not read"),
        *("half a body", "answered before its body"),
    ],
)
def test_a_connection_ends_in_time_whatever_its_client_does(
    monkeypatch: pytest.MonkeyPatch, loops: Callable[[], asyncio.AbstractEventLoop], said: bytes
) -> None:
    monkeypatch.setattr(admin_http, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(admin_http, "_ANSWER_SECONDS", 0.4)

    async def main() -> None:
        async with (
            serve_admin(application, LOCAL, BadRequests()) as [(_, port)],
            client(port) as (reader, writer),
        ):
            writer.write(said)
            await asyncio.sleep(0.6)
            if b"/large" in said:
                # It was cut off: not all of it comes.
                assert len(await ended(reader)) < 32 << 20
            else:
                await ended(reader)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(main())


def test_a_client_that_takes_its_time_with_each_request_is_served_again_and_again(
    monkeypatch: pytest.MonkeyPatch, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setattr(admin_http, "_HEAD_SECONDS", 1.0)

    async def main() -> None:
        async with (
            serve_admin(application, LOCAL, BadRequests()) as [(_, port)],
            client(port) as (reader, writer),
        ):
            for _ in range(4):
                await asyncio.sleep(0.4)
                writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2) == b"xx"

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(main())


def test_one_connection_too_many_ends_the_one_that_has_waited_longest(
    loops: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with (
            contextlib.AsyncExitStack() as stack,
            serve_admin(application, LOCAL, BadRequests(), descriptors=4) as [(_, port)],
        ):
            busy, busy_writer = await stack.enter_async_context(client(port))
            busy_writer.write(b"GET /never HTTP/1.1\r\n" + HEAD)
            await asyncio.sleep(0.05)
            first, _ = await stack.enter_async_context(client(port))
            await asyncio.sleep(0.05)
            second, second_writer = await stack.enter_async_context(client(port))
            await asyncio.sleep(0.05)
            third, third_writer = await stack.enter_async_context(client(port))
            assert await ended(first) == b""
            for reader, writer in ((second, second_writer), (third, third_writer)):
                writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert not busy.at_eof()
            # When all that are there have asked for something, the new one has to go.
            for writer in (second_writer, third_writer):
                writer.write(b"GET /never HTTP/1.1\r\n" + HEAD)
            await asyncio.sleep(0.05)
            fourth, _ = await stack.enter_async_context(client(port))
            assert await ended(fourth) == b""

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(main())

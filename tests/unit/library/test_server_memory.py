"""Connections leave nothing behind: no cycle for the collector, no object that lives on."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tidegate import Connection, Server

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 1.0},
    "pacing": {"enabled": False},
}


@pytest.fixture
def _without_the_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Objects end by their counts, or not at all; what is logged is kept by nobody."""
    monkeypatch.setattr(logging.getLogger("tidegate"), "disabled", True)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


pytestmark = pytest.mark.usefixtures("_without_the_collector")


class Session:
    """What an application keeps for a connection."""


class Handlers:
    """Handlers that keep nothing but weak references."""

    def __init__(self, *, is_async: bool, do: Callable[[Connection], None]) -> None:
        self.is_async = is_async
        self.do = do
        self.alive: list[weakref.ref[Any]] = []
        self.closed = 0

    def on_connect(self, connection: Connection, request: object) -> Any:
        connection.context = Session()
        self.alive += [
            weakref.ref(connection),
            weakref.ref(connection.context),
        ]
        return self._done()

    def on_message(self, connection: Connection, message: str | bytes) -> Any:
        if self.is_async:
            return self._later(connection)
        return self.do(connection)

    def on_close(self, connection: Connection, code: int, text: str) -> Any:
        assert connection.closed
        self.closed += 1
        return self._done()

    def _done(self) -> Any:
        return asyncio.sleep(0) if self.is_async else None

    async def _later(self, connection: Connection) -> None:
        await asyncio.sleep(0)
        self.do(connection)


def echo(connection: Connection) -> None:
    connection.send("echo")


def close(connection: Connection) -> None:
    connection.close()


def abort(connection: Connection) -> None:
    connection.abort()


def fail(connection: Connection) -> None:
    raise RuntimeError("of the handler")


def ours() -> list[Any]:
    """What only the collector could end, of the types of Tidegate and of this test."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [
            each for each in gc.garbage if type(each).__module__.startswith(("tidegate", __name__))
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("do", [echo, close, abort, fail])
@pytest.mark.parametrize("end", [Client.leave, Client.reset])
def test_connection_that_is_closed_is_gone_without_the_collector(
    do: Callable[[Connection], None], is_async: bool, end: Callable[[Client], None]
) -> None:
    async def main() -> None:
        handlers = Handlers(is_async=is_async, do=do)
        async with Server(
            QUICK,
            on_connect=handlers.on_connect,
            on_message=handlers.on_message,
            on_close=handlers.on_close,
        ) as server:
            for _ in range(5):
                client = await Client.open(server.addresses[0][1])
                await client.say("hello")
                if do is echo:
                    assert await client.text() == "echo"
                elif do is not abort:
                    await client.closed()
                end(client)
            await until(lambda: handlers.closed == 5)
            await until(lambda: not any(ref() for ref in handlers.alive))
            assert len(handlers.alive) == 10
            assert ours() == []

    run_guarded(main())


def test_connection_of_the_engine_is_gone_without_the_collector_too() -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=Connection.send) as server:
            client = await Client.open(server.addresses[0][1])
            (engine,) = (weakref.ref(each) for each in server._node.connections)
            await client.say("hello")
            assert await client.text() == "hello"
            await client.close()
            await until(lambda: engine() is None)
            assert ours() == []

    run_guarded(main())


@pytest.mark.parametrize("which", ["on_connect", "on_message", "on_close", None])
def test_connection_is_gone_whichever_handlers_there_are(which: str | None) -> None:
    async def main() -> None:
        handlers: dict[str, Any] = {} if which is None else {which: lambda *_: None}
        async with Server(QUICK, **handlers) as server:
            client = await Client.open(server.addresses[0][1])
            (own,) = map(weakref.ref, server.connections)
            await client.say("hello")
            client.leave()
            await until(lambda: own() is None)
            assert ours() == []

    run_guarded(main())


def test_server_that_has_stopped_leaves_no_connection_behind() -> None:
    async def main() -> None:
        handlers = Handlers(is_async=True, do=echo)
        server = Server(QUICK, on_connect=handlers.on_connect, on_message=handlers.on_message)
        await server.start()
        client = await Client.open(server.addresses[0][1])
        await until(lambda: handlers.alive)
        stopping = asyncio.create_task(server.stop())
        await client.closed()
        await stopping
        await until(lambda: not any(ref() for ref in handlers.alive))

    run_guarded(main())


@pytest.mark.parametrize("how", ["return", "raise", "loop", "receive"])
def test_connection_of_a_route_is_gone_too(how: str) -> None:
    async def serve(connection: Connection) -> None:
        await connection.receive()
        if how == "raise":
            fail(connection)
        if how == "loop":
            async for _ in connection:
                pass
        if how == "receive":
            await connection.receive()

    async def main() -> None:
        server = Server(QUICK)
        server.route("/ws")(serve)
        async with server:
            client = await Client.open(server.addresses[0][1])
            (own,) = map(weakref.ref, server.connections)
            await client.say("hello")
            if how in ("return", "raise"):
                await client.closed()
            client.leave()
            await until(lambda: own() is None)
            assert ours() == []

    run_guarded(main())

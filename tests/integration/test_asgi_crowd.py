"""200 attempts at once where 50 may be open, and every way to end, on each ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.asgi_servers import SERVERS, AsgiProcess
from tests.support.net import wait_until

SETTINGS = {
    "server": {"path": "", "shutdown_timeout": 0.5},
    "drain": {"window": 0.2},
    "limits": {"connections": 50, "per_ip": 1000},
    "messages": {"max_size": 100_000},
}
ATTEMPTS, LIMIT = 200, 50
BY_THE_APPLICATION = ("return", "raise", "close")
WAYS = (
    *BY_THE_APPLICATION,
    "go on",
    "never return",
    "client closes",
    "client leaves",
    "client resets",
    "too big",
)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: object) -> Iterator[AsgiProcess]:
    """One of the servers, in a process of its own."""
    process = AsgiProcess(request.param, tmp_path, SETTINGS)  # type: ignore[arg-type]
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()


async def attempt(server: AsgiProcess, path: str) -> ClientConnection | str:
    """The connection, or why there is none."""
    url = f"ws://127.0.0.1:{server.port}/crowd/{path}"
    try:
        return await connect(url, proxy=None, compression=None, open_timeout=30)
    except InvalidStatus as refused:
        response = refused.response
        return response.headers.get("X-Rejection-Reason") or str(response.status_code)


async def fill(server: AsgiProcess, free: int) -> list[ClientConnection]:
    """200 attempts at once; those that are in, which are as many as there is room for."""
    answers = await asyncio.gather(*(attempt(server, str(number)) for number in range(ATTEMPTS)))
    clients = [answer for answer in answers if isinstance(answer, ClientConnection)]
    reasons = {answer for answer in answers if isinstance(answer, str)}
    assert len(clients) == free
    assert reasons == {"403" if server.name == "daphne" else "server_limit"}
    for client in clients:
        assert await client.recv()
    return clients


async def end(client: ClientConnection, way: str) -> None:
    """End a connection, or do what makes the application or the gate end it."""
    with contextlib.suppress(ConnectionClosed):
        if way == "client closes":
            await client.close()
        elif way == "client leaves":
            client.transport.close()
        elif way == "client resets":
            client.transport.abort()
        elif way == "too big":
            await client.send(bytes(100_001))
        else:
            await client.send(way)
            if way not in BY_THE_APPLICATION:
                await asyncio.sleep(0.05)
                client.transport.abort()
    await client.wait_closed()


def wait_open(server: AsgiProcess, count: int) -> None:
    wait_until(lambda: server.open() == count, 15, f"{count} are open, not {server.open()}")


async def drain(server: AsgiProcess) -> None:
    """Drain it while some are open: they are closed, and nobody is admitted."""
    clients = [await attempt(server, str(number)) for number in range(5)]
    await asyncio.to_thread(server.drain)
    for client in clients:
        assert isinstance(client, ClientConnection)
        await client.wait_closed()
        assert client.close_code == (3012 if server.name == "daphne" else 1012)
    assert await attempt(server, "late") == ("403" if server.name == "daphne" else "draining")
    assert server.open() == 0


def test_crowd_gets_exactly_what_is_free_and_gives_all_back(server: AsgiProcess) -> None:
    dice = random.Random(50)

    async def crowd() -> None:
        clients = await fill(server, LIMIT)
        assert server.open() == LIMIT
        assert server.ask("/crowd") == {"now": LIMIT, "most": LIMIT}
        for _ in range(2):
            dice.shuffle(clients)
            leaving, clients = clients[:30], clients[30:]
            ways = dice.sample(WAYS * 4, len(leaving))
            await asyncio.gather(*map(end, leaving, ways))
            await asyncio.to_thread(wait_open, server, LIMIT - len(leaving))
            # Those that the application refuses hold nothing either.
            denied = await asyncio.gather(*(attempt(server, f"{n}/denied") for n in range(10)))
            assert set(denied) == {"403"}
            await asyncio.to_thread(wait_open, server, LIMIT - len(leaving))
            clients += await fill(server, len(leaving))
            assert server.open() == LIMIT
        await asyncio.gather(*map(end, clients, dice.sample(WAYS * 6, LIMIT)))
        await asyncio.to_thread(wait_open, server, 0)

    asyncio.run(crowd())
    wait_until(lambda: server.ask("/crowd")["now"] == 0, 10, "the application has ended them all")
    if not server.ours:
        counts = server.ask("/gate")
        assert counts["rejected"]["server_limit"] == ATTEMPTS * 3 - LIMIT - 30 * 2
        assert sum(counts["disconnected"].values()) == LIMIT + 30 * 2 + 10 * 2
    asyncio.run(drain(server))

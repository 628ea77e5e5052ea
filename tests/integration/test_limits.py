"""Limits are exact at every instant, whoever comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.conftest import Start
from tests.support import aio
from tests.support.process import Process
from tests.support.tokens import SECRET, bearer

ATTEMPTS = 1000
LIMIT = 100
CLIENTS = 200
TURNS = 5
PLENTY = 10_000

pytestmark = pytest.mark.usefixtures("many_descriptors", "many_addresses")

# What limits, the settings for it, and who the attempt of this number is.
KINDS: dict[str, tuple[dict[str, Any], Callable[[int], tuple[str, list[tuple[str, str]]]]]] = {
    "server_limit": (
        {"limits": {"connections": LIMIT, "per_ip": PLENTY}},
        lambda number: (f"127.0.1.{number % 20 + 1}", []),
    ),
    "ip_limit": (
        {"limits": {"per_ip": LIMIT}},
        lambda _: ("127.0.1.1", []),
    ),
    "user_limit": (
        {"limits": {"per_user": LIMIT, "per_ip": PLENTY}},
        lambda number: (f"127.0.1.{number % 20 + 1}", [bearer("ann")]),
    ),
    "tier_limit": (
        {"limits": {"per_ip": PLENTY}, "tiers": {"gold": {"connections": LIMIT}}},
        lambda number: (f"127.0.1.{number % 20 + 1}", [bearer(f"user{number}", tier="gold")]),
    ),
}


@contextlib.contextmanager
def watched(server: Process) -> Iterator[list[int]]:
    """Ask again and again how many are open, and yield the list of answers."""
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            seen.append(server.open())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


class Crowd:
    """Clients that count how many of them are open at once."""

    def __init__(self, server: Process, kind: str) -> None:
        self.server = server
        self.who = KINDS[kind][1]
        self.open = self.most = 0
        self.outcomes: Counter[str] = Counter()

    async def attempt(self, number: int) -> ClientConnection | None:
        address, headers = self.who(number)
        try:
            connection = await websockets.connect(
                self.server.url,
                proxy=None,
                compression=None,
                local_addr=(address, 0),
                additional_headers=headers,
                open_timeout=30,
                ping_interval=None,
            )
        except InvalidStatus as refusal:
            response = refusal.response
            assert int(response.headers["Retry-After"]) > 0
            assert response.headers["X-RateLimit-Limit"] == str(LIMIT)
            self.outcomes[response.headers["X-Rejection-Reason"]] += 1
            return None
        self.outcomes["open"] += 1
        self.open += 1
        self.most = max(self.most, self.open)
        return connection

    async def leave(self, connection: ClientConnection) -> None:
        # It no longer counts itself from before it says so: then the server may let one in.
        self.open -= 1
        if random.random() < 0.3:
            connection.transport.abort()
        await connection.close()

    async def come_and_go(self, number: int, together: asyncio.Barrier) -> None:
        for turn in range(TURNS):
            connection = await self.attempt(number)
            if turn == 0:
                # So that the limit is reached, however fast this machine is.
                await together.wait()
            await asyncio.sleep(random.random() / 10)
            if connection is not None:
                await self.leave(connection)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_attempts_at_once(serve: Start, kind: str) -> None:
    server = serve({"auth": {"secret": SECRET}, **KINDS[kind][0]})
    crowd = Crowd(server, kind)

    async def burst() -> list[ClientConnection]:
        made = await asyncio.gather(*map(crowd.attempt, range(ATTEMPTS)))
        connections = [connection for connection in made if connection is not None]
        rows = await asyncio.to_thread(server.connections)
        assert len(rows) == LIMIT
        return connections

    async def run() -> None:
        connections = await burst()
        assert crowd.outcomes == {"open": LIMIT, kind: ATTEMPTS - LIMIT}
        # A moment later nobody more is in, and nobody was thrown out.
        assert await asyncio.to_thread(server.open) == LIMIT
        await asyncio.gather(*map(crowd.leave, connections))

    with watched(server) as seen:
        aio.run(run())
    assert max(seen) == LIMIT
    assert crowd.most == LIMIT
    server.wait_open(0)
    stats = server.stats()
    assert stats["connections"]["peak"] == LIMIT
    assert stats["connections"]["accepted"] == LIMIT
    assert stats["rejections"][kind] == ATTEMPTS - LIMIT
    assert server.connections() == []


@pytest.mark.parametrize("kind", KINDS)
def test_coming_and_going_at_the_limit(serve: Start, kind: str) -> None:
    server = serve({"auth": {"secret": SECRET}, **KINDS[kind][0]})
    crowd = Crowd(server, kind)

    async def run() -> None:
        together = asyncio.Barrier(CLIENTS)
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(crowd.come_and_go(number, together))

    with watched(server) as seen:
        aio.run(run())
    assert 0 < max(seen) <= LIMIT
    assert crowd.most <= LIMIT
    assert crowd.outcomes["open"] > LIMIT, "places were given again"
    assert crowd.outcomes[kind] >= CLIENTS - LIMIT, "the limit was reached"
    server.wait_open(0)
    stats = server.stats()["connections"]
    assert (stats["uniqueIps"], stats["uniqueUsers"], stats["peak"]) == (0, 0, LIMIT)
    assert server.connections() == []


def test_one_full_address_leaves_the_others_alone(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 2}})
    with contextlib.ExitStack() as stack:
        for address in ("127.0.1.1", "127.0.1.2", "127.0.1.3"):
            for _ in range(2):
                stack.enter_context(server.connect(source=address)).open()
            raw = stack.enter_context(server.connect(source=address))
            assert raw.ask().headers["x-rejection-reason"] == "ip_limit"
        assert server.stats()["connections"]["uniqueIps"] == 3
        assert len(server.connections("ip=127.0.1.2")) == 2


def test_the_reserve_of_a_tier(serve: Start) -> None:
    server = serve(
        {
            "auth": {"secret": SECRET},
            "limits": {"connections": 10, "per_user": 20},
            "tiers": {"gold": {"reserved": 0.3}},
        }
    )
    with contextlib.ExitStack() as stack:

        def ask(*headers: tuple[str, str]) -> str:
            response = stack.enter_context(server.connect()).ask(headers=headers)
            return response.headers.get("x-rejection-reason", "open")

        assert [ask() for _ in range(8)] == ["open"] * 7 + ["server_limit"]
        gold = [ask(bearer("ann", tier="gold")) for _ in range(4)]
        assert gold == ["open"] * 3 + ["server_limit"]


def test_the_limit_for_the_users_of_a_tier(serve: Start) -> None:
    server = serve(
        {
            "auth": {"secret": SECRET},
            "limits": {"per_user": 1},
            "tiers": {"free": {"per_user": 2}},
        }
    )
    with contextlib.ExitStack() as stack:
        for user, tier, most in [("ann", "free", 2), ("bob", None, 1), ("eve", "unknown", 1)]:
            for number in range(most + 1):
                raw = stack.enter_context(server.connect())
                response = raw.ask(headers=[bearer(user, tier=tier)])
                assert response.status == (101 if number < most else 429), (user, number)
        assert len(server.connections("user=ann")) == 2

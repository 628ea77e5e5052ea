"""Every way to begin and to end, mixed at random: what is counted is 0 afterwards."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tidegate import Connection, Refused, Request, Server, refuse

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.2, "handshake_timeout": 2.0},
    "pacing": {"enabled": False},
    "limits": {"per_user": 3, "per_room": 5},
    "messages": {"per_second": 0},
}
MOST = 3


class World:
    """A server whose functions do what the request asks them to."""

    def __init__(self) -> None:
        self.server = server = Server(SETTINGS)
        self.open: dict[str, int] = {}
        self.most = 0
        self.at_work = 0
        server.identify(self.who)
        server.route("/{room}")(self.serve)

    async def who(self, request: Request) -> str | Refused:
        await asyncio.sleep(random.random() / 100)
        how = request.query_params.get("who", "")
        if how == "raise":
            raise RuntimeError("of identify")
        return refuse("forbidden") if how == "refuse" else how

    async def serve(self, connection: Connection, request: Request, room: str) -> None:
        user = connection.user or ""
        self.at_work += 1
        self.open[user] = self.open.get(user, 0) + 1
        try:
            async with connection.join(room):
                async for message in connection:
                    await self.do(connection, str(message))
        finally:
            self.at_work -= 1

    async def do(self, connection: Connection, what: str) -> None:
        held = [each.user for each in self.server.connections if not each.closed]
        self.most = max(self.most, *(held.count(user) for user in {*held}))
        if what == "raise":
            raise RuntimeError("of the route")
        if what == "close":
            connection.close(4000)
        elif what == "abort":
            connection.abort()
        elif what == "sleep":
            await asyncio.sleep(60)
        elif what == "refuse":
            raise refuse("forbidden")
        else:
            connection.send(what)


async def visit(world: World) -> None:
    """One client: it asks, says something, and leaves in some way."""
    who = random.choice(["ann", "bob", "cid", "raise", "refuse"])
    client = await Client.at(world.server.addresses[0][1])
    try:
        path = random.choice(["/a", "/b", "/c/d"])
        await client.knock(path=f"{path}?who={who}")
        if random.random() < 0.2:
            return  # before it is known who it is
        response = await client.response()
        if response.status != 101:
            return
        for _ in range(random.randrange(3)):
            await client.say(random.choice(["hello", "raise", "close", "abort", "sleep", "refuse"]))
            await asyncio.sleep(random.random() / 50)
        if random.random() < 0.3:
            await client.close()
    except (EOFError, OSError):
        pass  # the server has ended it
    finally:
        random.choice([client.leave, client.reset])()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_after_every_way_to_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.Logger.error", lambda *_, **__: None)

    async def main() -> None:
        random.seed(seed)
        world = World()
        server = world.server
        async with server:
            for _ in range(4):
                await asyncio.gather(*(visit(world) for _ in range(50)))
            await until(lambda: not server.stats().connections.current)
            await until(lambda: not world.at_work)
            await until(lambda: not server._node.engine.at_work)
            assert world.open.keys() == {"ann", "bob", "cid"}
            assert 0 < world.most <= MOST
            assert (server.rooms, server.users, [*server.connections]) == ([], [], [])
            stats = server.stats()
            assert stats.connections.accepted > 20
            for reason in ("forbidden", "internal_error", "not_found", "user_limit"):
                assert stats.rejections[reason], reason
            assert not server._node.engine.shared.pending

    run_guarded(main(), 30)

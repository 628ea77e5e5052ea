"""Servers of the library whose rooms have a limit over all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.clients import run_guarded, until
from tests.support.valkey import valkey
from tidegate import Connection, Refused, Server


def make(url: str, how: Any) -> Server:
    settings: dict[str, dict[str, object]] = {
        "server": {"shutdown_timeout": 1.0},
        "backplane": {"url": url},
        "limits": {"per_room": 1},
    }
    server = Server(settings, port=0)

    @server.route("/ws")
    async def talk(connection: Connection) -> None:
        await how(connection)

    return server


async def client(server: Server) -> ClientConnection:
    port = server.addresses[0][1]
    return await connect(f"ws://127.0.0.1:{port}/ws", proxy=None, compression=None)


async def awaited(connection: Connection) -> None:
    try:
        room = await connection.join("r")
    except Refused as refusal:
        connection.send(refusal.reason)
    else:
        room.send("in")
    await connection.wait_closed()


async def in_a_block(connection: Connection) -> None:
    async with connection.join("r") as room:
        room.send("in")
        await connection.wait_closed()


async def at_once(connection: Connection) -> None:
    connection.join("r")
    connection.send("asked")
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [(awaited, "in", "room_full"), (in_a_block, "in", None), (at_once, "asked", "asked")],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_room_is_full_with_a_member_at_another_server(
    tmp_path: Path, how: Any, first: str, second: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(url: str) -> None:
        one, other = make(url, how), make(url, how)
        async with one, other:
            ann = await client(one)
            assert await ann.recv() == first
            await until(lambda: len(one.room("r")) == 1)
            bob = await client(other)
            if second is None:
                await bob.wait_closed()
                assert bob.close_code == 4002
                assert '"room_full"' in str(bob.close_reason)
            else:
                assert await bob.recv() == second
                await until(lambda: len(other.room("r")) == 0)
            await ann.close()
            await until(lambda: len(one.room("r")) == 0)
            async with asyncio.timeout(10):
                while True:
                    cy = await client(other)
                    if await cy.recv() == first:
                        break
                    await cy.close()
            await cy.close()
            await bob.close()

    with valkey(tmp_path) as between:
        run_guarded(main(between.url), 40)
    warned = [one.getMessage() for one in caplog.records if "is not in the room" in one.message]
    assert bool(warned) is (how is at_once)

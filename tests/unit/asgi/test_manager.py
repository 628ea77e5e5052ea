"""The connection manager: limits before the accept, and lobbies that empty by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from tests.support.aio import in_loop
from tests.support.asgi_wire import Wire
from tests.support.leases import Between, Counts
from tidegate.asgi.manager import ConnectionManager
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.errors import ConfigError, Refused
from tidegate.node.fleet_leases import FleetLeases


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Client:
    """A client, and the task of the endpoint that serves it as the tutorial does."""

    def __init__(
        self, manager: ConnectionManager, lobby: str, user: str | None, **wire: Any
    ) -> None:
        self.wire = Wire(**wire)
        self.websocket = self.wire.websocket()
        self.task = asyncio.create_task(self._endpoint(manager, lobby, user))

    async def _endpoint(self, manager: ConnectionManager, lobby: str, user: str | None) -> None:
        await manager.connect(self.websocket, lobby, user)
        while True:
            text = await self.websocket.receive_text()
            if text == "raise":
                raise LookupError("of the application")
            if text == "return":
                return
            await manager.broadcast_to_lobby(lobby, f"{user}: {text}", exclude=self.websocket)


async def client(
    manager: ConnectionManager, lobby: str = "a", user: str | None = None, **wire: Any
) -> Client:
    made = Client(manager, lobby, user, **wire)
    await settle()
    return made


@in_loop
async def test_manager_sends_to_lobbies_and_users() -> None:
    manager = ConnectionManager()
    ann, bob = await client(manager, user="ann"), await client(manager, user="bob")
    second = await client(manager, "b", "bob")
    ann.wire.says("hello")
    await settle()
    assert bob.wire.texts == ["ann: hello"]
    assert (ann.wire.texts, second.wire.texts) == ([], [])
    assert await manager.send_to_user("bob", {"n": 1}) == 2
    assert manager.get_lobby_users("a") == ["ann", "bob"]
    assert manager.get_lobby_users("none") == []
    assert manager.is_user_connected("ann")
    assert not manager.is_user_connected("cy")
    stats = manager.stats()
    assert (stats.connections, stats.users, stats.rooms) == (3, 2, 2)
    for one in (ann, bob, second):
        one.task.cancel()


@pytest.mark.parametrize("how", ["leaves", "raises", "returns", "cancelled", "disconnect"])
def test_every_end_empties_the_lobby_and_gives_the_capacity_back(how: str) -> None:
    @in_loop
    async def test() -> None:
        manager = ConnectionManager(connections=1)
        one = await client(manager, user="ann")
        assert manager.stats().connections == 1
        match how:
            case "leaves":
                one.wire.leaves()
            case "raises":
                one.wire.says("raise")
            case "returns":
                one.wire.says("return")
            case "cancelled":
                one.task.cancel()
            case "disconnect":
                manager.disconnect(one.websocket)
                manager.disconnect(one.websocket)
        await settle()
        assert manager.get_lobby_users("a") == []
        assert not manager.is_user_connected("ann")
        assert (manager.stats().connections, manager.stats().rooms) == (0, 0)
        another = await client(manager, user="bob")
        assert manager.get_lobby_users("a") == ["bob"]
        for task in (one.task, another.task):
            task.cancel()
        await asyncio.gather(one.task, another.task, return_exceptions=True)

    test()


@pytest.mark.parametrize(
    ("limits", "reason", "status"),
    [
        ({"per_ip": 1}, "ip_limit", 429),
        ({"per_user": 1}, "user_limit", 429),
        ({"connections": 1}, "server_limit", 503),
        ({"per_room": 1}, "room_full", 503),
    ],
)
def test_limits_refuse_before_the_accept(limits: Any, reason: str, status: int) -> None:
    @in_loop
    async def test() -> None:
        manager = ConnectionManager(**limits)
        held = await client(manager, user="ann")
        late = await client(manager, user="ann")
        error = late.task.exception()
        assert isinstance(error, Refused)
        assert isinstance(error, HTTPException)
        assert (error.reason, error.status_code) == (reason, status)
        assert error.headers["X-Rejection-Reason"] == reason
        assert int(error.headers["Retry-After"]) > 0
        assert late.wire.sent == []
        assert manager.stats().connections == 1
        assert manager.stats().refused == {reason: 1}
        held.task.cancel()

    test()


@pytest.mark.parametrize(
    ("limits", "code", "reason", "accepts"),
    [({"per_ip": 1}, 1013, "ip_limit", False), ({"per_room": 1}, 4002, "room_full", True)],
)
def test_server_that_cannot_deny_closes_with_a_code_that_it_takes(
    limits: Any, code: int, reason: str, accepts: bool
) -> None:
    @in_loop
    async def test() -> None:
        manager = ConnectionManager(**limits)
        held = await client(manager)
        late = await client(manager, denies=False)
        error = late.task.exception()
        assert isinstance(error, Refused)
        assert isinstance(error, WebSocketException)
        assert (error.code, error.reason) == (code, reason)
        assert bool(late.wire.sent) == accepts
        assert manager.stats().connections == 1
        held.task.cancel()

    test()


@in_loop
async def test_client_that_leaves_while_it_is_accepted_takes_nothing() -> None:
    manager = ConnectionManager()
    wire = Wire()
    wire.error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        await manager.connect(wire.websocket(), "a", "ann")
    stats = manager.stats()
    assert (stats.connections, stats.rooms) == (0, 0)
    assert not manager.is_user_connected("ann")


async def counting(manager: ConnectionManager, **fleet: object) -> Counts:
    """What counts the lobbies of a manager over several processes."""
    counts = Counts(Between())
    leases = FleetLeases(Settings.from_mapping({"fleet": fleet}), counts, Stats(), lambda: None)
    await leases.start()
    manager.hub._counts = leases
    return counts


@in_loop
async def test_lobbies_that_cannot_be_counted_refuse_for_a_while() -> None:
    manager = ConnectionManager()
    counts = await counting(manager, when_down="refuse")
    counts.cut()
    late = await client(manager)
    error = late.task.exception()
    assert isinstance(error, HTTPException)
    assert isinstance(error, Refused)
    assert (error.reason, error.status_code) == ("fleet_down", 503)
    assert int(error.headers["Retry-After"]) > 0
    assert manager.stats().refused == {"fleet_down": 1}
    assert manager.stats().connections == 0


@in_loop
async def test_client_that_leaves_while_its_lobby_is_counted_takes_nothing() -> None:
    manager = ConnectionManager()
    counts = await counting(manager)
    late = await client(manager)
    assert manager._gate.tracker.open == 1
    late.task.cancel()
    await settle()
    counts.work()
    assert manager._gate.tracker.open == 0
    assert not +counts.between.counts[counts]
    assert manager.stats().rooms == 0


@in_loop
async def test_websocket_may_be_in_several_lobbies() -> None:
    manager = ConnectionManager({"limits": {"rooms_per_connection": 2}})
    one = await client(manager, user="ann")
    await manager.connect(one.websocket, "b")
    with pytest.raises(Refused, match="too_many_rooms"):
        await manager.connect(one.websocket, "c")
    assert manager.get_lobby_users("b") == ["ann"]
    assert manager.stats().connections == 1
    assert manager.leave_lobby(one.websocket, "b")
    assert not manager.leave_lobby(one.websocket, "b")
    assert manager.get_lobby_users("b") == []
    assert manager.get_lobby_users("a") == ["ann"]
    one.wire.leaves()
    await settle()
    assert manager.stats().rooms == 0


@in_loop
async def test_slow_client_is_closed_and_its_endpoint_ends() -> None:
    manager = ConnectionManager({"outbox": {"max_bytes": 1024}})
    slow, fast = await client(manager, user="ann"), await client(manager, user="bob")
    slow.wire.free.clear()
    reached = []
    for _ in range(4):
        reached.append(await manager.broadcast_to_lobby("a", "x" * 500))
        await settle()
    assert reached == [2, 2, 1, 1]
    assert len(fast.wire.texts) == 4
    error = slow.task.exception()
    assert isinstance(error, WebSocketDisconnect)
    assert error.code == 4008
    assert manager.get_lobby_users("a") == ["bob"]
    fast.task.cancel()


@in_loop
async def test_ping_user_takes_the_answer_out_of_what_the_client_sends() -> None:
    manager = ConnectionManager()
    one = await client(manager, user="ann")
    pinging = asyncio.create_task(manager.ping_user("ann"))
    await settle()
    one.wire.says(one.wire.texts[0].replace("ping", "pong"))
    latency = await pinging
    assert latency is not None
    assert 0 <= latency < 5
    assert await manager.ping_user("bob") is None
    one.task.cancel()


def test_settings_that_are_wrong_are_named() -> None:
    with pytest.raises(ConfigError, match=r"limits\.per_ip"):
        ConnectionManager(per_ip=-1)
    assert isinstance(ConnectionManager({"limits": {"per_user": 2}}), ConnectionManager)

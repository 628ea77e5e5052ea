"""Rooms, users, broadcasts and pings of a `Server`, over sockets in its own loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from tests.support.clients import run_guarded, until
from tidegate import ConfigError, Connection, Refused, Server, UsageError

SECRET = "a secret of at least thirty-two bytes"


def make(on_connect: Any = None, /, **options: Any) -> Server:
    settings: dict[str, dict[str, object]] = {
        "server": {"shutdown_timeout": 1.0},
        "pacing": {"enabled": False},
        "auth": {"secret": SECRET},
    }
    return Server(settings, port=0, on_connect=on_connect, **options)


class World:
    """A server and its clients."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.opened: list[ClientConnection] = []

    async def client(self, user: str | None = None) -> tuple[ClientConnection, Connection]:
        before = {connection.id for connection in self.server.connections}
        port = self.server.addresses[0][1]
        headers = {}
        if user is not None:
            headers["Authorization"] = f"Bearer {jwt.encode({'sub': user}, SECRET)}"
        client = await connect(
            f"ws://127.0.0.1:{port}/ws", additional_headers=headers, proxy=None, compression=None
        )
        self.opened.append(client)
        (own,) = [each for each in self.server.connections if each.id not in before]
        return client, own

    async def heard(self, client: ClientConnection, count: int) -> list[str | bytes]:
        async with asyncio.timeout(20):
            return [await client.recv() for _ in range(count)]

    async def silent(self, client: ClientConnection) -> bool:
        """Whether nothing came that was sent before."""
        await (await client.ping())
        assert client.state is State.OPEN
        return not client.recv_messages.frames


def play(scene: Any, server: Server | None = None) -> None:
    async def main() -> None:
        async with server or make() as running:
            world = World(running)
            try:
                await scene(world)
            finally:
                for client in world.opened:
                    await client.close()

    run_guarded(main(), 20)


def test_room_gets_what_is_sent_to_it() -> None:
    async def scene(world: World) -> None:
        (one, first), (two, second), (other, _) = [await world.client() for _ in range(3)]
        first.join("a")
        second.join("a")
        room = world.server.room("a")
        sent = room.send("text")
        assert sent.reached == 2
        room.send(b"bytes")
        room.send(memoryview(b"view"))
        room.send_json({"a": [1]})
        room.send("not to one", exclude=first)
        assert await world.heard(one, 4) == ["text", b"bytes", b"view", '{"a":[1]}']
        assert (await world.heard(two, 5))[-1] == "not to one"
        assert await world.silent(other)
        assert await world.silent(one)

    play(scene)


def test_what_the_server_sends_is_counted_as_the_librarys() -> None:
    async def scene(world: World) -> None:
        client, connection = await world.client("ann")
        connection.join("a")
        server = world.server
        server.room("a").send("to a room")
        server.user("ann").send("to a user")
        server.broadcast("to all")
        assert len(await world.heard(client, 3)) == 3
        assert +server._node.stats.published == {"library": 3}

    play(scene)


def test_room_knows_its_members_and_users() -> None:
    async def scene(world: World) -> None:
        _, ann = await world.client("ann")
        _, again = await world.client("ann")
        _, nobody = await world.client()
        server, room = world.server, world.server.room("a")
        assert not room
        for each in (ann, again, nobody):
            each.join("a")
            each.join("a")
        assert (len(room), room.members, list(room)) == (3, [ann, again, nobody], room.members)
        assert (room.users, server.users, server.rooms) == (["ann"], ["ann"], ["a"])
        assert ann in room
        assert "ann" in room
        assert "bob" not in room
        assert ann.rooms == ("a",)
        assert server.user("ann").rooms == ["a"]
        assert ann.leave("a")
        assert not ann.leave("a")
        assert ann not in room
        nobody.close()
        await until(lambda: len(room) == 1)
        assert "'a' members=1" in repr(room)

    play(scene)


def test_join_as_a_block_leaves_at_its_end() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client()
        async with own.join("a") as room:
            assert room.members == [own]
            assert await room.send("hello") == 1
        assert not room
        with pytest.raises(LookupError):
            async with own.join("a"):
                raise LookupError
        assert not room
        assert await world.heard(client, 1) == ["hello"]

    play(scene)


def test_join_as_a_block_within_another_does_not_leave() -> None:
    async def scene(world: World) -> None:
        _, own = await world.client()
        async with own.join("a") as room:
            async with own.join("a"):
                pass
            assert own in room
        assert not room
        own.join("a")
        async with own.join("a"):
            pass
        assert own in room

    play(scene)


def test_join_beyond_a_limit_is_refused() -> None:
    async def scene(world: World) -> None:
        (_, first), (_, second) = [await world.client() for _ in range(2)]
        first.join("a")
        with pytest.raises(Refused, match="room_full"):
            second.join("a")
        assert second.rooms == ()
        with pytest.raises(Refused, match="room_full"):
            async with second.join("a"):
                raise AssertionError("it must not get here")
        first.close()
        await until(lambda: not world.server.rooms)
        second.join("a")

    play(scene, make(per_room=1))


def test_user_is_reached_on_every_device() -> None:
    async def scene(world: World) -> None:
        (one, _), (two, second), (other, _) = [
            await world.client(user) for user in ("ann", "ann", "bob")
        ]
        ann = world.server.user("ann")
        assert len(ann) == 2
        assert ann.send("hi").reached == 2
        assert await ann.send(b"\x00\xff") == 2
        assert ann.send_json([1]).reached == 2
        assert world.server.user("eve").send("nobody").reached == 0
        assert not world.server.user("eve")
        for client in (one, two):
            assert await world.heard(client, 3) == ["hi", b"\x00\xff", "[1]"]
        assert await world.silent(other)
        assert ann.close(4000, "bye") == 2
        with pytest.raises(ConnectionClosed):
            await one.recv()
        await until(lambda: second.closed)
        assert world.server.users == ["bob"]

    play(scene)


def test_broadcast_reaches_all_in_order() -> None:
    async def scene(world: World) -> None:
        clients = [await world.client() for _ in range(20)]
        _, left_out = clients[0]
        for number in range(5):
            assert world.server.broadcast(str(number)).reached == 20
        assert await world.server.broadcast("rest", exclude=left_out) == 19
        assert world.server.broadcast_json({"all": True}).reached == 20
        for client, own in clients:
            wanted = [*"01234", "rest", '{"all":true}']
            if own is left_out:
                wanted.remove("rest")
            assert await world.heard(client, len(wanted)) == wanted

    play(scene)


def test_broadcast_of_one_turn_and_a_room_of_any_name_stay_apart() -> None:
    async def scene(world: World) -> None:
        (one, first), (two, second), (three, _) = [await world.client() for _ in range(3)]
        second.join("\0all")
        world.server.broadcast("all")
        world.server.room("\0all").send("room")
        second.close()
        assert world.server.broadcast("rest").reached == 2
        first.send("own")
        assert await world.heard(three, 2) == ["all", "rest"]
        assert sorted(map(str, await world.heard(one, 3))) == ["all", "own", "rest"]
        with pytest.raises(ConnectionClosed):
            await two.recv()

    play(scene)


def test_messages_keep_their_order_with_those_of_the_connection() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client()
        own.join("a")
        for number in range(100):
            await world.server.room("a").send(str(number))
        assert await world.heard(client, 100) == [str(number) for number in range(100)]

    play(scene)


def test_publisher_that_awaits_is_refused_when_too_much_waits() -> None:
    async def scene(world: World) -> None:
        _, own = await world.client()
        room = world.server.room("a")
        own.join("a")
        large = "x" * (1 << 20)
        sent = [room.send(large) for _ in range(20)]  # in one turn of the loop
        with pytest.raises(Refused, match="overloaded"):
            await sent[-1]

    play(scene, make(max_message_size=1 << 20))


@pytest.mark.parametrize("wrong", [5, None, ["a"], {"a": 1}])
def test_message_that_is_none_is_a_mistake(wrong: Any) -> None:
    async def scene(world: World) -> None:
        for send in (
            world.server.room("a").send,
            world.server.user("a").send,
            world.server.broadcast,
        ):
            with pytest.raises(TypeError, match="str"):
                send(wrong)
        with pytest.raises(TypeError, match="name must be str"):
            world.server.room(5)  # type: ignore[arg-type]

    play(scene)


def test_ping_measures_the_way_to_the_client() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client("ann")
        assert own.latency is None
        latency = await own.ping()
        assert latency is not None
        assert 0 < latency < 2
        assert own.latency == latency
        both = await asyncio.gather(own.ping(), own.ping())
        assert both[0] == both[1]
        assert await world.server.user("ann").ping() is not None
        assert await world.server.user("eve").ping() is None
        await client.close()
        await until(lambda: own.closed)
        assert await own.ping() is None

    play(scene)


def test_ping_that_gives_up_leaves_the_answer_to_another() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client()
        client.transport.pause_reading()
        patient = asyncio.ensure_future(own.ping(10))
        assert await own.ping(0.01) is None
        client.transport.resume_reading()
        assert await patient is not None

    play(scene)


def test_ping_of_a_client_that_does_not_answer_ends() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client()
        client.transport.pause_reading()
        assert await own.ping(0.05) is None
        waiting = asyncio.ensure_future(own.ping(5))
        await asyncio.sleep(0)
        own.abort()
        assert await waiting is None
        client.transport.resume_reading()

    play(scene)


def test_other_threads_use_call_soon() -> None:
    async def scene(world: World) -> None:
        client, own = await world.client()
        own.join("a")
        server, room = world.server, world.server.room("a")
        wrong: list[BaseException] = []

        def elsewhere() -> None:
            calls = (
                lambda: room.send("x"),
                lambda: room.members,
                lambda: own.join("b"),
                lambda: own.leave("a"),
                lambda: own.close(),
                own.abort,
                lambda: server.user("ann").close(),
                lambda: server.broadcast("x"),
                lambda: server.connections,
                server.stats,
            )
            for call in calls:
                try:
                    call()
                except UsageError as error:
                    wrong.append(error)
            server.call_soon(room.send, "from a thread")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        assert await world.heard(client, 1) == ["from a thread"]
        thread.join()
        assert len(wrong) == 10
        assert all("call_soon" in str(error) for error in wrong)

    play(scene)


def test_call_soon_of_a_server_that_does_not_run_is_a_mistake() -> None:
    server = make()
    with pytest.raises(UsageError, match="does not run yet"):
        server.call_soon(print)

    async def scene(world: World) -> None:
        pass

    play(scene, server)
    with pytest.raises(UsageError, match="does not run any more"):
        server.call_soon(print)


def test_server_that_has_ended_can_be_asked_from_any_thread() -> None:
    server = make()

    async def scene(world: World) -> None:
        await world.client()

    thread = threading.Thread(target=play, args=(scene, server))
    thread.start()
    thread.join(30)
    assert server.stats().connections.current == 0
    assert list(server.connections) == []


def test_shortcuts_win_over_settings() -> None:
    server = Server({"limits": {"per_ip": 3, "per_user": 4}}, per_ip=5, per_room=None, path="/x")
    limits = server.settings.limits
    assert (limits.per_ip, limits.per_user, server.settings.server.path) == (5, 4, "/x")
    with pytest.raises(ConfigError, match=r"limits\.per_ip"):
        Server(per_ip=-1)
    with pytest.raises(TypeError, match="there is no setting 'per_ipp' here; there are host"):
        Server(per_ipp=1)  # type: ignore[call-arg]


def test_route_that_may_not_join_closes_with_the_reason() -> None:
    server = make(per_room=1)

    @server.route("/chat/{room}")
    async def chat(connection: Connection, room: str) -> None:
        async with connection.join(room):
            await connection.wait_closed()

    async def scene(world: World) -> None:
        port = world.server.addresses[0][1]
        url = f"ws://127.0.0.1:{port}/chat/a"
        async with connect(url, proxy=None), connect(url, proxy=None) as second:
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4002
            assert "room_full" in closed.value.rcvd.reason

    play(scene, server)

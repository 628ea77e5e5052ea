"""The Python client, and how it lives with a real server."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.conftest import Start
from tests.support.aio import in_loop
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.relay import relay
from tests.support.tokens import SECRET, token
from tidegate.client import (
    Backoff,
    Client,
    ClientClosed,
    ClientError,
    Connected,
    Direct,
    Feed,
    Joined,
    Presence,
    QueueStatus,
    Room,
    Shutdown,
    State,
    StateChange,
    connect,
)

HISTORY = [
    {"pattern": "secret", "join": "nobody"},
    {"pattern": "*", "history_size": 1000, "history_ttl": 300, "presence": "members"},
]
PATIENCE = 30.0


def settings(**more: Any) -> dict[str, Any]:
    return {"rooms": {"rules": HISTORY}, "limits": {"per_ip": 100}, **more}


@pytest.fixture(scope="module")
def shared(shared_serve: Start) -> Process:
    """A server for tests that leave it as it was."""
    return shared_serve(settings())


async def soon(feed: Feed[Any], **fields: Any) -> Any:
    """The next event with these fields."""
    async with asyncio.timeout(PATIENCE):
        async for event in feed:
            if all(getattr(event, name) == value for name, value in fields.items()):
                return event
    raise AssertionError("it ended")


async def take(room: Room, count: int) -> list[Any]:
    """The data of the next messages of a room."""
    found = []
    async with asyncio.timeout(PATIENCE):
        async for message in room:
            found.append(message.data)
            if len(found) == count:
                break
    return found


@asynccontextmanager
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@in_loop
async def test_two_clients_chat(serve: Start, codec: Literal["json", "msgpack"]) -> None:
    server = serve(settings(auth={"secret": SECRET}))
    async with (
        connect(server.url, token=token("ann"), codec=codec) as ann,
        connect(server.url, token=lambda: token("bob")) as bob,
    ):
        directs = bob.events(Direct)
        changes = ann.room("lobby", presence=True).events(Presence)
        async with ann.room("lobby") as here, bob.room("lobby") as there:
            assert await soon(changes, count=2)
            assert set(here.users) == {"ann", "bob"}
            assert (await here.publish({"text": "hello"})).offset == 1
            for room in (here, there):
                assert await take(room, 1) == [{"text": "hello"}]
            (kept,) = (await there.history(10)).messages
            assert (kept.data, kept.sender) == ({"text": "hello"}, "ann")
            assert (await there.presence()).count == 2
            assert (await ann.direct("bob", [1, None])).delivered == 1
            assert (await soon(directs)).data == [1, None]
            assert (await ann.direct("nobody", 1)).delivered == 0
            assert 0 <= await ann.ping() < PATIENCE
        with pytest.raises(ClientError, match="not_joined"):
            await here.publish(1)
        assert (await ann.publish("lobby", 2)).offset == 2
    assert ann.state is State.CLOSED
    server.wait_open(0, PATIENCE)


@in_loop
async def test_killed_server_comes_back_and_messages_flow_again(
    serve: Start, tmp_path: Path
) -> None:
    server = serve(settings())
    soon_again = Backoff(0.2, 1)
    async with (
        connect(server.url, backoff=soon_again) as ann,
        connect(server.url, backoff=soon_again) as bob,
    ):
        rooms = [ann.room("lobby"), bob.room("lobby")]
        joins = [room.events(Joined) for room in rooms]
        lost = ann.events(StateChange)
        await rooms[1].join()
        await ann.publish("lobby", 1)
        assert await take(rooms[1], 1) == [1]
        server.kill()
        await soon(lost, state=State.BACKOFF)
        waiting = asyncio.create_task(rooms[0].publish(2, timeout=PATIENCE))
        again = await asyncio.to_thread(
            Process.serve, tmp_path / "again", settings(), port=server.port
        )
        try:
            # Its memory is lost with it, and the clients say so.
            for feed in joins:
                joined = await soon(feed, again=True)
                assert not joined.recovered
            assert (await waiting).offset == 1
            await rooms[0].publish(3)
            # The second message may have been published before the other client was back.
            assert (await take(rooms[1], 1))[0] in (2, 3)
        finally:
            again.kill()


@in_loop
async def test_cut_line_is_resumed_and_nothing_is_missed(serve: Start) -> None:
    server = serve(settings(sessions={"enabled": True}))
    async with relay(server.port) as line, connect(server.url) as ann, connect(line.url) as bob:
        assert bob.info is not None
        first = bob.info.connection_id
        events = bob.events(Connected)
        room = bob.room("lobby")
        joins = room.events(Joined)
        await room.join()
        await soon(joins)
        for turn in range(3):
            line.cut()
            for number in range(10):
                await ann.publish("lobby", [turn, number])
            back = await soon(events)
            assert back.resumed
            assert back.connection_id == first
            assert (await soon(joins)).recovered
            assert await take(room, 10) == [[turn, number] for number in range(10)]


@in_loop
async def test_cut_line_without_sessions_recovers(serve: Start) -> None:
    server = serve(settings())
    async with relay(server.port) as line, connect(server.url) as ann, connect(line.url) as bob:
        room = bob.room("lobby")
        await room.join()
        joins = room.events(Joined)
        line.cut()
        for number in range(100):
            await ann.publish("lobby", number)
        assert (await soon(joins)).recovered
        assert await take(room, 100) == list(range(100))


@in_loop
async def test_waiting_room_shows_the_position_and_admits(serve: Start) -> None:
    server = serve({"limits": {"connections": 1}, "waiting_room": {"enabled": True, "size": 10}})
    async with connect(server.url) as first:
        second = Client(server.url)
        positions, states = second.events(QueueStatus), second.events(StateChange)
        second.start()
        try:
            await soon(states, state=State.WAITING)
            assert (await soon(positions)).position == 1
            await first.close()
            async with asyncio.timeout(PATIENCE):
                await second.ready()
        finally:
            await second.close()


@in_loop
async def test_refused_client_obeys_the_delay_or_stays_away(serve: Start) -> None:
    server = serve({"limits": {"connections": 1}})
    async with connect(server.url):
        second = Client(server.url)
        states = second.events(StateChange)
        second.start()
        change = await soon(states, state=State.BACKOFF)
        assert change.loss.error == "server_limit"
        assert 5.1 <= change.delay <= 6
        await second.close()
        with pytest.raises(ClientClosed, match="not_found") as closed:
            async with connect(f"{server.url}/nowhere"):
                pass
        assert closed.value.loss is not None


@in_loop
async def test_token_is_renewed_after_a_refusal(serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET}})
    tokens = iter(["nonsense", token("ann")])
    client = Client(server.url, token=lambda: next(tokens))
    states = client.events(StateChange)
    async with client:
        assert (await soon(states, state=State.BACKOFF)).loss.code == 4501
        assert client.info is not None
        assert client.info.user_id == "ann"


@in_loop
async def test_token_that_expires_is_replaced_on_the_open_connection(serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET}})
    asked: list[str] = []

    async def get_token() -> str:
        asked.append(token("ann", expires_in=3600 if asked else 12))
        return asked[-1]

    async with connect(server.url, token=get_token) as client:
        states = client.events(StateChange)
        async with asyncio.timeout(PATIENCE):
            while len(asked) < 2:
                await asyncio.sleep(0.01)
        await client.ping()
        assert client.state is State.OPEN
    assert (await soon(states)).state is State.CLOSED


@in_loop
async def test_drained_client_keeps_its_slot(serve: Start) -> None:
    server = serve({"drain": {"window": 2}})
    async with connect(server.url) as client:
        notices, states = client.events(Shutdown), client.events(StateChange)
        server.signal(15)
        slot = (await soon(notices)).reconnect_delay
        change = await soon(states, state=State.BACKOFF)
        assert change.loss.error == "drained"
        assert 0 <= slot <= 3
        assert change.delay == pytest.approx(0.1, abs=0.01)
    await asyncio.to_thread(server.process.wait, PATIENCE)


@in_loop
async def test_kicked_client_raises_in_its_loops(shared: Process) -> None:
    async with connect(shared.url) as client:
        room = client.room("kicked")
        await room.join()
        assert client.info is not None
        reader = asyncio.create_task(take(room, 1))
        process = await asyncio.create_subprocess_exec(
            *(
                Path(sys.executable).with_name("tidegate"),
                "kick",
                "--id",
                client.info.connection_id,
                "--yes",
            ),
            env={"TIDEGATE_CONFIG": str(shared.config)},
        )
        assert await process.wait() == 0
        with pytest.raises(ClientClosed, match="kicked"):
            await reader
        with pytest.raises(ClientClosed, match="kicked"):
            await room.publish(1)


@in_loop
async def test_loop_that_was_left_goes_on_where_it_was(shared: Process) -> None:
    async with connect(shared.url) as client:
        room = client.room("loop_that_was_left")
        await room.join()
        for number in range(6):
            await room.publish(number)
        assert await take(room, 2) == [0, 1]
        assert await take(room, 4) == [2, 3, 4, 5]
        reader = asyncio.create_task(take(room, 1))
        await asyncio.sleep(0)
        await room.leave()
        assert await reader == []


@in_loop
async def test_loop_that_is_too_slow_is_told(shared: Process) -> None:
    async with connect(shared.url, room_buffer=5) as client:
        room = client.room("loop_that_is_too_slow")
        await room.join()
        for number in range(7):
            await room.publish(number)
        await client.ping()  # what was published before has come
        with pytest.raises(ClientError, match="overflow"):
            await take(room, 1)
        await room.publish("new")
        assert await take(room, 1) == ["new"]


@in_loop
async def test_room_that_may_not_be_joined_raises_in_the_loop(shared: Process) -> None:
    async with connect(shared.url) as client:
        for _ in range(2):
            with pytest.raises(ClientError, match="not_allowed"):
                await take(client.room("secret"), 1)


@in_loop
async def test_cancelled_calls_leave_nothing_behind(shared: Process) -> None:
    async with connect(shared.url) as client, no_task_is_left():
        for wait in (0.0, 0.001, 0.01):
            calls = [
                asyncio.create_task(call)
                for call in (
                    client.ping(),
                    client.direct("ann", 1),
                    client.request({"type": "presence", "room": "attic"}),
                )
            ]
            await asyncio.sleep(wait)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await client.ping()
        assert not client._dispatch._requests._queue
        assert not client._dispatch._requests._sent


@in_loop
async def test_cancelled_join_is_left_again(shared: Process) -> None:
    async with connect(shared.url) as client:
        room = client.room("cancelled")
        for _ in range(3):
            join = asyncio.create_task(room.join())
            await asyncio.sleep(0)
            join.cancel()
            with pytest.raises(asyncio.CancelledError):
                await join
        assert not room.joined

        def is_member() -> bool:
            return any("cancelled" in each["rooms"] for each in shared.connections())

        await asyncio.to_thread(wait_until, lambda: not is_member(), PATIENCE, "it is left")
        await room.join()
        assert is_member()


@in_loop
async def test_rooms_that_were_left_are_forgotten(shared: Process) -> None:
    async with connect(shared.url) as client:
        for number in range(20):
            async with client.room(f"passing-{number}") as room:
                pass
        gc.collect()
        assert client.room("passing-19") is room
        heard = client.room("heard")
        heard.on(Joined, lambda _: None)
        async with heard:
            pass
        assert [*client._dispatch._rooms] == ["heard"]
        assert [*client._dispatch._left] == ["passing-19"]
        await room.join()
        await room.publish("again")
        assert await take(room, 1) == ["again"]


@in_loop
async def test_cancelled_connect_leaves_nothing_behind() -> None:
    async with no_task_is_left():
        with socket.socket() as stalled:
            stalled.bind(("127.0.0.1", 0))
            stalled.listen()
            url = f"ws://127.0.0.1:{stalled.getsockname()[1]}"
            for wait in (0.0, 0.01, 0.1):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(wait), connect(url):
                        pass


@in_loop
async def test_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    client = Client(f"ws://127.0.0.1:{port}/ws", backoff=Backoff(0.2, 1))
    states = client.events(StateChange)
    entering = asyncio.create_task(client.__aenter__())
    change = await soon(states, state=State.BACKOFF)
    assert "Connect call failed" in change.loss.detail
    server = await asyncio.to_thread(Process.serve, tmp_path, {}, port=port)
    try:
        async with asyncio.timeout(PATIENCE):
            await entering
        await client.close()
    finally:
        server.kill()

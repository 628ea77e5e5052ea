"""Clients that drop off and come back, over real sockets: nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from msgspec import Raw

from tests.support.clients import Client, run_guarded, until
from tests.unit.node.node_world import settings_of
from tidegate.core.codes import (
    BUFFERS_FULL,
    HEARTBEAT_TIMEOUT,
    KICKED,
    RESET,
    SLOW_CONSUMER,
    Close,
)
from tidegate.core.messaging.publication import Direct
from tidegate.gate.tokens import create_token
from tidegate.node.control.connections import Selector
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.wire.deltas import apply

SECRET = "a secret of thirty-two bytes, or more"
RULES = [
    {"pattern": "kept", "history_size": 10},
    {"pattern": "doc", "delta": True},
    {"pattern": "seen", "presence": "members", "presence_grace": 60.0},
]


class Device:
    """A client of the native protocol that remembers its session."""

    def __init__(self, world: World, user: str | None) -> None:
        self.world = world
        self.user = user
        self.session = ""
        self.seq = 0

    async def connect(self, session: str | None = None, user: str = "") -> dict[str, Any]:
        """Open a connection; with a session, to resume it. Returns `connected`."""
        offered = ["tidegate.v1.json"]
        if session:
            offered.append(f"tidegate.session.{session}.{self.seq}")
        headers = []
        if user or self.user:
            headers.append(("Authorization", f"Bearer {self.world.token(user or self.user or '')}"))
        self.client = await Client.open(self.world.port, ", ".join(offered), headers=headers)
        connected = await self.hear()
        assert connected["type"] == "connected"
        self.session = connected["session"]
        self.id = connected["connectionId"]
        return connected

    async def resume(self) -> dict[str, Any]:
        return await self.connect(self.session)

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(await self.client.text())
        self.seq = message.get("seq", self.seq)
        return message

    async def say(self, **message: Any) -> dict[str, Any]:
        """Say something and return the answer."""
        await self.client.say(json.dumps({**message, "id": "x"}))
        while (answer := await self.hear()).get("id") != "x":
            pass
        return answer

    async def quiet(self) -> None:
        """Nothing has come that was not read."""
        assert (await self.say_first(type="health_ping")) == {"type": "health_pong", "id": "x"}

    async def say_first(self, **message: Any) -> dict[str, Any]:
        await self.client.say(json.dumps({**message, "id": "x"}))
        return await self.hear()

    async def lose(self) -> None:
        """Lose the connection, and wait until the server knows."""
        before = len(self.world.sessions)
        self.client.reset()
        await until(lambda: len(self.world.sessions) > before)


class World:
    """A node that keeps sessions, and its clients."""

    def __init__(
        self,
        application: type[NativeApplication] = NativeApplication,
        **sections: dict[str, Any],
    ) -> None:
        sessions = {"enabled": True, **sections.pop("sessions", {})}
        self.settings = settings_of(
            sessions=sessions,
            rooms={"rules": RULES},
            auth={"secret": SECRET},
            anonymous={"direct": True},
            **sections,
        )
        self.node = Node(self.settings, application)
        assert self.node.sessions is not None
        self.sessions = self.node.sessions

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.node.stop()
        assert self.node.tracker.open == len(self.sessions)

    @property
    def port(self) -> int:
        return self.node.addresses[0][1]

    def token(self, user: str) -> str:
        return create_token(
            self.settings.auth,
            user=user,
            tier=None,
            priority=0,
            lifetime_seconds=60,
            now=time.time(),
        )

    async def device(self, user: str | None = "ann") -> Device:
        device = Device(self, user)
        await device.connect()
        return device


def test_a_client_that_drops_off_comes_back_as_the_same_connection() -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.device()
            first = ann.id
            await ann.say(type="join", room="lobby")
            await ann.lose()
            assert world.node.tracker.open == 1
            connected = await ann.resume()
            assert connected["resumed"] is True
            assert connected["recovered"] is True
            assert (connected["connectionId"], connected["rooms"]) == (first, ["lobby"])
            assert world.node.tracker.open == 1
            assert world.node.rooms.count("lobby") == 1
            assert len(world.sessions) == 0
            await ann.quiet()

    run_guarded(main())


def test_what_a_room_without_history_was_sent_meanwhile_comes_then() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                await device.say(type="join", room="lobby")
            await ann.lose()
            for number in range(5):
                await bob.say(type="room_message", room="lobby", data=number, echo=False)
            await ann.resume()
            await bob.say(type="room_message", room="lobby", data=5, echo=False)
            assert [(await ann.hear())["data"] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
            await ann.quiet()

    run_guarded(main())


def test_a_room_with_history_is_asked_for_what_was_missed() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            joined = await ann.say(type="join", room="kept")
            await bob.say(type="join", room="kept")
            await ann.lose()
            for number in range(3):
                await bob.say(type="room_message", room="kept", data=number, echo=False)
            await ann.resume()
            since = {"epoch": joined["epoch"], "offset": joined["offset"]}
            ack = await ann.say_first(type="join", room="kept", since=since)
            assert (ack["recovered"], ack["offset"], ack["members"]) == (True, 3, 2)
            assert [(await ann.hear())["offset"] for _ in range(3)] == [1, 2, 3]
            await ann.quiet()

    run_guarded(main())


def test_direct_messages_come_again_that_were_not_seen_and_no_others() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for number in range(4):
                assert (await bob.say(type="direct_message", user="ann", data=number))["delivered"]
            assert [(await ann.hear())["seq"] for _ in range(2)] == [1, 2]
            await ann.lose()  # 3 and 4 are lost on the way
            sent = await bob.say(type="direct_message", user="ann", data=4)
            assert sent["delivered"] == 1
            assert (await ann.resume())["recovered"] is True
            again = [await ann.hear() for _ in range(3)]
            assert [(message["seq"], message["data"]) for message in again] == [
                (3, 2),
                (4, 3),
                (5, 4),
            ]
            await ann.quiet()

    run_guarded(main())


def test_a_direct_message_between_the_decision_and_the_opening_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.device("ann")
            await ann.lose()
            delivered: list[int] = []
            resume = world.sessions.resume

            def decide(*attempt: Any) -> Any:
                resumed = resume(*attempt)
                message = Direct("ann", Raw(b'"between"'), None, "")
                world.node.delivery.send(message, delivered.append)
                return resumed

            monkeypatch.setattr(world.sessions, "resume", decide)
            assert (await ann.resume())["recovered"] is True
            assert delivered == [1]
            message = await ann.hear()
            assert (message["data"], message["seq"]) == ("between", 1)
            await ann.quiet()

    run_guarded(main())


def test_a_direct_message_to_a_slow_client_that_is_being_closed_is_not_lost() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            (connection,) = world.node.users.of_user("ann")
            connection.fail(SLOW_CONSUMER)
            assert not connection.open
            assert (await bob.say(type="direct_message", user="ann", data=1))["delivered"] == 1
            ann.client.reset()
            await until(lambda: len(world.sessions) == 1)
            assert (await ann.resume())["recovered"] is True
            assert (await ann.hear())["data"] == 1
            await ann.quiet()

    run_guarded(main())


def test_more_direct_messages_than_are_kept_are_a_loss_that_is_told() -> None:
    async def main() -> None:
        async with World(sessions={"max_bytes": 2000}) as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            await ann.lose()
            for _ in range(9):
                await bob.say(type="direct_message", user="ann", data="x" * 300)
            assert (await ann.resume())["recovered"] is False
            await ann.quiet()

    run_guarded(main())


def test_more_room_messages_than_are_kept_are_a_gap() -> None:
    async def main() -> None:
        async with World(sessions={"max_bytes": 2000}) as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                await device.say(type="join", room="lobby")
            await ann.lose()
            for _ in range(9):
                await bob.say(type="room_message", room="lobby", data="x" * 300, echo=False)
            await ann.resume()
            heard = [await ann.hear()]
            while heard[-1]["type"] == "room_message":
                heard.append(await ann.hear())
            assert 1 < len(heard) < 9
            assert heard[-1] == {"type": "gap", "room": "lobby"}
            await ann.quiet()

    run_guarded(main())


@pytest.mark.parametrize("reason", [SLOW_CONSUMER, BUFFERS_FULL, HEARTBEAT_TIMEOUT, RESET])
def test_rooms_without_history_have_a_gap_where_the_loss_was_noticed_late(reason: Close) -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                for room in ("lobby", "kept"):
                    await device.say(type="join", room=room)
            (connection,) = world.node.users.of_user("ann")
            if reason is HEARTBEAT_TIMEOUT:
                connection.dead()
            elif reason is RESET:
                connection.lost(reason)
            else:
                connection.fail(reason)
            ann.client.reset()
            await until(lambda: len(world.sessions) == 1)
            await bob.say(type="room_message", room="lobby", data=1, echo=False)
            await ann.resume()
            assert (await ann.hear())["data"] == 1
            if reason is not RESET:
                assert await ann.hear() == {"type": "gap", "room": "lobby"}
            await ann.quiet()

    run_guarded(main())


def test_a_direct_message_to_a_connection_that_does_not_come_back_is_delivered_to_none() -> None:
    async def main() -> None:
        async with World() as world:
            await world.device("ann")
            bob = await world.device("bob")
            (connection,) = world.node.users.of_user("ann")
            connection.end(KICKED)
            assert not connection.open
            assert (await bob.say(type="direct_message", user="ann", data=1))["delivered"] == 0

    run_guarded(main())


def test_nobody_is_told_again_that_a_client_joined_when_it_resumes() -> None:
    class Application(NativeApplication):
        told: ClassVar[list[tuple[str, bool]]] = []

        @property
        def moved(self) -> Callable[[Any, str, bool], None]:
            return lambda connection, room, comes: self.told.append((room, comes))

    async def main() -> None:
        async with World(application=Application) as world:
            ann = await world.device("ann")
            await ann.say(type="join", room="lobby")
            await ann.lose()
            await ann.resume()
            assert Application.told == [("lobby", True)]
            await ann.say(type="leave", room="lobby")
            assert Application.told == [("lobby", True), ("lobby", False)]

    run_guarded(main())


def test_nobody_hears_that_a_user_was_away_within_the_grace_time() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            await bob.say(type="join", room="seen", presence=True)
            assert (await bob.hear())["type"] == "presence_state"
            await ann.say(type="join", room="seen", presence=True)
            assert (await bob.hear())["type"] == "user_joined"
            await ann.lose()
            await ann.resume()
            state = await ann.hear()
            assert state["type"] == "presence_state"
            assert sorted(one["user"] for one in state["users"]) == ["ann", "bob"]
            cat = await world.device("cat")
            await cat.say(type="join", room="seen")
            for device in (ann, bob):
                assert [one["user"] for one in (await device.hear())["users"]] == ["cat"]

    run_guarded(main())


def test_a_session_is_resumed_once() -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.device()
            old = ann.session
            await ann.lose()
            await ann.resume()
            assert ann.session != old
            await ann.lose()
            assert "resumed" not in await ann.connect(old)
            assert world.node.tracker.open == 2  # the new one, and the session that waits

    run_guarded(main())


@pytest.mark.parametrize("other", ["bob", None])
def test_a_session_is_its_users_alone(other: str | None) -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.device("ann")
            await ann.lose()
            thief = Device(world, other)
            assert "resumed" not in await thief.connect(ann.session)
            assert (await ann.resume())["resumed"] is True

    run_guarded(main())


def test_a_client_may_come_back_before_the_server_knows_that_it_was_lost() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            await ann.say(type="join", room="lobby")
            half_open = ann.client
            assert (await ann.resume())["rooms"] == ["lobby"]
            assert world.node.tracker.open == 2
            with pytest.raises(ConnectionError):
                await half_open.end()
            assert await ann.hear() == {"type": "gap", "room": "lobby"}
            await bob.say(type="direct_message", user="ann", data=1)
            assert (await ann.hear())["data"] == 1

    run_guarded(main())


def test_a_session_comes_back_to_a_full_server_and_a_full_address() -> None:
    async def main() -> None:
        limits = {"connections": 1, "per_ip": 1, "per_user": 1}
        async with World(limits=limits) as world:
            ann = await world.device()
            await ann.lose()
            stranger = await Client.at(world.port)
            assert (await stranger.ask("none")).status == 429
            assert (await ann.resume())["resumed"] is True

    run_guarded(main())


@pytest.mark.parametrize(
    "leave",
    [
        lambda device: device.client.close(1000),
        lambda device: device.client.close(4000),
    ],
)
def test_a_client_that_closes_has_left(leave: Callable[[Device], Any]) -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.device()
            await leave(ann)
            await until(lambda: not world.node.tracker.open)
            assert "resumed" not in await ann.resume()

    run_guarded(main())


def test_an_operator_ends_sessions_that_wait_too() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            await ann.lose()
            await bob.lose()
            done = await world.node.control.disconnect(Selector(user="ann"))
            assert done.count == 1
            assert (world.node.tracker.open, len(world.sessions)) == (1, 1)
            assert "resumed" not in await ann.resume()

    run_guarded(main())


def test_a_session_that_waits_too_long_gives_everything_back() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                await device.say(type="join", room="lobby")
            await ann.lose()
            await bob.say(type="room_message", room="lobby", data="x", echo=False)
            await bob.say(type="direct_message", user="ann", data="x")
            await until(lambda: world.sessions.size)
            world.sessions.tick(1e12)
            assert world.node.tracker.open == 1
            assert world.node.rooms.count("lobby") == 1
            assert "ann" not in world.node.users
            assert world.sessions.size == 0
            assert world.node.stats.sessions == {"parked": 1, "resumed": 0, "expired": 1}
            assert "resumed" not in await ann.resume()

    run_guarded(main())


def test_beyond_the_most_sessions_the_oldest_ends() -> None:
    async def main() -> None:
        async with World(sessions={"most": 2}) as world:
            devices = [await world.device(f"user{number}") for number in range(3)]
            for device in devices:
                device.client.reset()
                await gone(world, device.user)
            assert len(world.sessions) == world.node.tracker.open == 2
            assert "resumed" not in await devices[0].resume()
            assert (await devices[2].resume())["resumed"] is True

    run_guarded(main())


async def gone(world: World, user: str | None) -> None:
    """Wait until no connection of a user is open."""
    await until(lambda: all(one.user != user for one in world.node.connections))


def test_the_next_in_the_waiting_room_gets_what_a_session_gives_back() -> None:
    async def main() -> None:
        limits = {"connections": 1}
        async with World(limits=limits, waiting_room={"enabled": True}) as world:
            ann = await world.device()
            await ann.lose()
            bob = await Client.open(world.port, "tidegate.v1.json")
            assert json.loads(await bob.text())["type"] == "queue_status"
            world.sessions.tick(1e12)
            while (said := json.loads(await bob.text()))["type"] == "queue_status":
                pass
            assert said["type"] == "connected"

    run_guarded(main())


def test_deltas_after_a_loss_build_on_nothing_that_may_be_lost() -> None:
    async def main() -> None:
        async with World() as world:
            ann, bob = await world.device("ann"), await world.device("bob")
            for device in (ann, bob):
                ack = await device.say(type="join", room="doc", delta="fossil")
                assert ack["delta"] == "fossil"

            async def publish(number: int) -> None:
                data = {"text": "a text that stays the same", "number": number}
                await bob.client.say(
                    json.dumps({"type": "room_message", "room": "doc", "data": data})
                )
                assert (await bob.hear())["type"] == "room_delta"

            await publish(1)
            assert "base" not in await ann.hear()
            await publish(2)  # it is lost on the way
            await ann.lose()
            for number in (3, 4):
                await publish(number)
            assert (await ann.resume())["rooms"] == ["doc"]
            data = b""
            bases = []
            for number in (3, 4, 5):
                if number == 5:
                    await publish(number)
                message = await ann.hear()
                bases.append(message.get("base"))
                data = apply(data if bases[-1] else b"", message["delta"].encode())
                assert json.loads(data)["number"] == number
            assert bases == [None, 3, None]

    run_guarded(main())

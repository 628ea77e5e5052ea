"""A hub over WebSockets of somebody else's server: who gets what, and who is too slow."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from tests.support.aio import in_loop
from tests.support.asgi_wire import Wire
from tests.support.leases import Between, Counts
from tidegate.asgi.hub import Hub
from tidegate.asgi.local import LocalGate
from tidegate.asgi.member import HubMember, engine_connection
from tidegate.core.codes import ROOM_LIMIT, TOO_MANY_ROOMS, TOO_MANY_USER_ROOMS, Fault
from tidegate.core.stats import Stats
from tidegate.node.fleet_leases import FleetLeases
from tidegate.node.values import encoded


class World:
    """A hub at a time that only tests move, and its members."""

    def __init__(self, between: Between | None = None, **sections: dict[str, object]) -> None:
        self.now = 1000.0
        self.gate = LocalGate(sections)
        if between is not None:
            self.counts = Counts(between)
            settings, stats = self.gate.settings, self.gate.stats
            self.fleet = FleetLeases(settings, self.counts, stats, lambda: None)
            self.gate.leases = self.fleet
        self.hub = Hub(self.gate, clock=lambda: self.now)
        self.wires: dict[HubMember, Wire] = {}

    def member(self, user: str | None = None, *rooms: str) -> HubMember:
        wire = Wire().connected()
        member = HubMember(self.hub, wire.receive, wire.send, user)
        member.accepted(None)
        for room in rooms:
            assert self.hub.join_here(member, room) is None
        self.wires[member] = wire
        return member

    def got(self, member: HubMember) -> list[str]:
        return self.wires[member].texts


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@in_loop
async def test_user_is_in_so_many_rooms_over_all_connections() -> None:
    world = World(limits={"rooms_per_user": 1})
    world.member("ann", "a")
    second = world.member("ann", "a")
    assert world.hub.join_here(second, "b") is TOO_MANY_USER_ROOMS
    world.gate.apply({"limits": {"rooms_per_user": 2}})
    assert world.hub.join_here(second, "b") is None


@in_loop
async def test_member_is_put_into_the_rooms_of_its_token_when_it_is_accepted() -> None:
    world = World(limits={"per_room": 1})
    world.member("bob", "full")
    wire = Wire().connected()
    member = HubMember(world.hub, wire.receive, wire.send, "ann", joins=("full", "news"))
    assert member.rooms == ()
    member.accepted(None)
    assert member.rooms == ("news",)
    member.left(1000)
    assert len(world.hub.room("news")) == 0


@in_loop
async def test_room_gets_a_message_in_order_and_without_whom_it_excludes() -> None:
    world = World()
    ann, bob = world.member("ann", "a"), world.member("bob", "a")
    other = world.member("cy", "b")
    room = world.hub.room("a")
    assert await room.send("one", exclude=ann) == 1
    assert await room.send("two") == 2
    await settle()
    assert world.got(ann) == ["two"]
    assert world.got(bob) == ["one", "two"]
    assert world.got(other) == []
    assert room.users == ["ann", "bob"]
    assert room.members == (ann, bob)
    assert (len(room), "ann" in room, "cy" in room, ann in room) == (2, True, False, True)
    assert await world.hub.room("none").send("x") == 0


@in_loop
async def test_user_gets_a_message_on_every_device() -> None:
    world = World()
    phone, laptop, bob = world.member("ann"), world.member("ann"), world.member("bob")
    assert await world.hub.user("ann").send({"n": 1}) == 2
    assert await world.hub.user("nobody").send("x") == 0
    assert await world.hub.broadcast(b"all", exclude=bob) == 2
    await settle()
    assert world.got(phone)[0] == '{"n":1}'
    assert world.wires[laptop].sent[1] == {"type": "websocket.send", "bytes": b"all"}
    assert world.wires[bob].sent == []
    assert world.hub.users == ["ann", "bob"]
    assert world.hub.user("ann").connected
    assert not world.hub.user("cy").connected


@in_loop
async def test_idle_member_has_no_task_and_nothing_is_kept() -> None:
    world = World()
    member = world.member("ann", "a")
    before = len(asyncio.all_tasks())
    await world.hub.room("a").send("x")
    await settle()
    assert world.got(member) == ["x"]
    assert len(asyncio.all_tasks()) == before
    assert (world.hub.buffered, member.buffered) == (0, 0)


@in_loop
async def test_message_is_encoded_once_for_all() -> None:
    class Model(BaseModel):
        count: int = 0

        def model_dump_json(self, **more: Any) -> str:
            self.count += 1
            return super().model_dump_json(**more)

    world = World()
    for _ in range(50):
        world.member(None, "a")
    model = Model()
    assert await world.hub.room("a").send(model) == 50
    assert model.count == 1


@in_loop
async def test_slow_member_is_not_waited_for_and_is_closed_when_too_much_waits() -> None:
    world = World(outbox={"max_bytes": 1024})
    slow, fast = world.member("ann", "a"), world.member("bob", "a")
    world.wires[slow].free.clear()
    room = world.hub.room("a")
    for number in range(4):
        assert await room.send(str(number) * 250) == 2
        await settle()
    assert (slow.buffered, world.hub.buffered) == (1000, 1000)
    assert await room.send("4" * 250) == 1
    await settle()
    assert len(world.got(fast)) == 5
    assert room.members == (fast,)
    assert world.hub.buffered == 0
    assert world.wires[slow].close == (4008, '{"error":"slow_consumer","retryAfter":5}')
    assert (await slow.next_event())["code"] == 4008
    assert not slow.open
    assert len(world.hub) == 1


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop_oldest", ["0", "4", "5"]), ("drop_newest", ["0", "1", "2"])]
)
def test_policy_drops_messages_of_rooms_and_counts_them(policy: str, kept: list[str]) -> None:
    @in_loop
    async def test() -> None:
        world = World(outbox={"max_bytes": 1200, "policy": policy})
        slow = world.member("ann", "a")
        world.wires[slow].free.clear()
        for number in range(6):
            await world.hub.room("a").send(str(number) * 400)
            await settle()
        assert world.gate.stats.messages_dropped[policy] == 3
        assert world.hub.stats().dropped == 3
        world.wires[slow].free.set()
        await settle()
        assert [text[0] for text in world.got(slow)] == kept

    test()


@in_loop
async def test_message_to_a_user_is_never_dropped() -> None:
    world = World(outbox={"max_bytes": 1200, "policy": "drop_oldest"})
    slow = world.member("ann", "a")
    world.wires[slow].free.clear()
    await world.hub.room("a").send("0" * 400)
    await settle()
    for text in ("u", "v"):
        assert await world.hub.user("ann").send(text * 400) == 1
    await world.hub.room("a").send("1" * 400)
    assert not slow.open
    await settle()
    assert world.wires[slow].close is not None


@in_loop
async def test_member_that_takes_nothing_for_too_long_is_closed() -> None:
    world = World(outbox={"max_age": 10})
    slow = world.member("ann", "a")
    world.wires[slow].free.clear()
    await world.hub.room("a").send("0")
    await settle()
    world.now += 9
    assert await world.hub.room("a").send("1") == 1
    world.now += 2
    assert await world.hub.room("a").send("2") == 0
    assert slow.end is not None


@in_loop
async def test_one_bound_holds_for_all_members_together() -> None:
    world = World(buffers={"max_bytes": 1 << 20}, messages={"max_size": 1000})
    members = [world.member(None, "a") for _ in range(4)]
    for member in members:
        world.wires[member].free.clear()
    reached = [await world.hub.room("a").send("x" * 100_000) for _ in range(6)]
    assert reached[0] == 4
    assert reached[-1] < 4
    assert world.hub.buffered <= 1 << 20


@in_loop
async def test_server_that_says_that_the_client_is_gone_ends_the_member() -> None:
    world = World()
    gone, other = world.member("ann", "a"), world.member("bob", "a")
    world.wires[gone].error = RuntimeError("the server's own words")
    await world.hub.room("a").send("x")
    await settle()
    assert world.hub.room("a").members == (other,)
    assert world.got(other) == ["x"]
    assert not world.hub.user("ann").connected


@in_loop
async def test_reader_of_a_member_that_is_too_slow_is_told_at_once() -> None:
    world = World(outbox={"max_age": 1})
    slow = world.member("ann", "a")
    world.wires[slow].free.clear()
    reading = asyncio.create_task(slow.next_event())
    await world.hub.room("a").send("x")
    await settle()
    world.now += 2
    await world.hub.room("a").send("y")
    event = await asyncio.wait_for(reading, 20)
    assert (event["type"], event["code"]) == ("websocket.disconnect", 4008)
    assert reading.cancelling() == 0


@in_loop
async def test_cancelling_a_reader_is_not_hidden_by_the_end_of_its_member() -> None:
    world = World()
    member = world.member("ann", "a")
    reading = asyncio.create_task(member.next_event())
    await settle()
    reading.cancel()
    member.left(1000)
    with pytest.raises(asyncio.CancelledError):
        await reading


@in_loop
async def test_own_messages_wait_for_the_client_and_come_in_order() -> None:
    world = World()
    member = world.member("ann", "a")
    wire = world.wires[member]
    wire.free.clear()
    await world.hub.room("a").send("0" * 70_000)
    own = asyncio.create_task(member.send_own("1"))
    await settle()
    assert not own.done()
    wire.free.set()
    assert await asyncio.wait_for(own, 20)
    assert [text[0] for text in wire.texts] == ["0", "1"]


@in_loop
async def test_own_message_that_waits_ends_with_its_member() -> None:
    world = World(outbox={"max_age": 1, "max_bytes": 1 << 20})
    member = world.member("ann", "a")
    world.wires[member].free.clear()
    own = asyncio.create_task(member.send_own("0" * 70_000))
    await settle()
    assert not own.done()
    world.now += 2
    assert await world.hub.room("a").send("1") == 0
    assert not await asyncio.wait_for(own, 20)


@in_loop
async def test_rooms_have_their_limits() -> None:
    world = World(limits={"per_room": 2, "rooms_per_connection": 2})
    ann, bob, cy = (world.member(None) for _ in range(3))
    hub = world.hub
    assert hub.join_here(ann, "a") is None
    assert hub.join_here(ann, "a", per_room=1) is None  # it is in already
    assert hub.join_here(bob, "a", per_room=1) is ROOM_LIMIT
    assert hub.join_here(bob, "a") is None
    assert hub.join_here(cy, "a") is ROOM_LIMIT
    assert hub.join_here(ann, "b") is None
    assert hub.join_here(ann, "c") is TOO_MANY_ROOMS
    assert hub.leave(ann, "a")
    assert not hub.leave(ann, "a")
    assert hub.join_here(cy, "a") is None


@in_loop
async def test_member_that_has_ended_joins_nothing() -> None:
    world = World()
    member = world.member("ann")
    member.left(1001)
    assert world.hub.join_here(member, "a") is None
    assert (len(world.hub.room("a")), member.rooms) == (0, ())
    member.left(1001)
    assert (await member.next_event())["code"] == 1001
    assert not await member.send_own("x")


@in_loop
async def test_ping_is_answered_by_a_message_that_the_application_does_not_see() -> None:
    world = World()
    member = world.member("ann")
    wire = world.wires[member]
    seen = asyncio.create_task(member.next_event())
    pinging = asyncio.create_task(world.hub.user("ann").ping(5))
    await settle()
    world.now += 0.25
    ping = json.loads(wire.texts[0])
    assert ping["type"] == "ping"
    wire.says('{"type":"pong","id":"another"}')
    assert (await seen)["text"] == '{"type":"pong","id":"another"}'
    seen = asyncio.create_task(member.next_event())
    wire.says(json.dumps({"type": "pong", "id": ping["id"]}))
    wire.says("hello")
    assert await pinging == 0.25
    assert (await seen)["text"] == "hello"


@in_loop
async def test_answer_that_comes_too_late_is_no_message_of_the_application() -> None:
    world = World()
    member = world.member("ann")
    wire = world.wires[member]
    for _ in range(20):
        assert await member.ping(0.001) is None
    wire.says(wire.texts[-1].replace("ping", "pong"))
    wire.says("hello")
    assert (await member.next_event())["text"] == "hello"


@in_loop
async def test_ping_without_an_answer_is_none() -> None:
    world = World()
    member = world.member("ann")
    assert await world.hub.user("ann").ping(0.01) is None
    assert await world.hub.user("nobody").ping(5) is None
    pinging = asyncio.create_task(member.ping(60))
    await settle()
    member.left(1001)
    assert await asyncio.wait_for(pinging, 20) is None


class FakeConnection:
    """A connection of our engine, as far as a member cares."""

    def __init__(self) -> None:
        self.open = True
        self.closed = False
        self.buffered = 0
        self.got: list[Any] = []
        self.shared = SimpleNamespace(stats=Stats())
        self.ended: Any = None

    def transmit(self, frame: bytes) -> None:
        self.got.append(frame)

    def send(self, message: str) -> None:
        self.got.append(message)

    def end(self, reason: Any) -> None:
        self.open, self.ended = False, reason


@in_loop
async def test_member_on_our_engine_gets_frames_without_a_detour() -> None:
    world = World()
    connection: Any = FakeConnection()
    scope = {"extensions": {"tidegate": {"id": "behind", "server": {"connection": connection}}}}
    wire = Wire().connected()
    member = HubMember(world.hub, wire.receive, wire.send, "ann")
    member.accepted(engine_connection(scope))
    assert world.hub.join_here(member, "a") is None
    assert await world.hub.room("a").send("hi") == 1
    assert await member.send_own("own")
    assert connection.got == [b"\x81\x02hi", "own"]
    assert await world.hub.user("ann").send("to her") == 1
    assert connection.got[-1] == "to her"  # no frame of a room: it may not be dropped
    connection.buffered = 1 << 20
    assert await member.send_own("waits with the server")
    assert wire.texts == ["waits with the server"]
    connection.open = False  # it is closing, or gone
    assert await world.hub.room("a").send("x") == 0
    assert len(world.hub) == 0
    assert engine_connection({"extensions": {"tidegate": {"connection": connection}}}) is connection
    assert engine_connection({"extensions": None}) is None


@dataclass
class Point:
    x: int


class Model(BaseModel):
    x: int


class Struct(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("text", "text"),
        (b"bytes", b"bytes"),
        (bytearray(b"bytes"), b"bytes"),
        ({"x": "ü"}, '{"x":"ü"}'),
        ([1, None], "[1,null]"),
        (Point(1), '{"x":1}'),
        (Struct(1), '{"x":1}'),
        (Model(x=1), '{"x":1}'),
        ({"in": Model(x=1)}, '{"in":{"x":1}}'),
    ],
)
def test_encoded_makes_a_message_of_a_value(value: Any, sent: str | bytes) -> None:
    assert encoded(value) == sent


@pytest.mark.parametrize("value", [object(), {"x": object()}, Model])
def test_encoded_names_what_no_message_can_be_made_of(value: Any) -> None:
    with pytest.raises(TypeError, match=r"object|type|ModelMetaclass"):
        encoded(value)


# Rooms whose limits hold over several processes.


async def fleet(**sections: dict[str, object]) -> list[World]:
    between = Between()
    worlds = [World(between, **sections) for _ in range(2)]
    for world in worlds:
        await world.fleet.start()
    return worlds


async def joined(world: World, member: HubMember, room: str = "a", **limit: int) -> Fault | None:
    joining = asyncio.create_task(world.hub.join(member, room, **limit))
    await settle()
    world.counts.work()
    return await joining


@in_loop
async def test_room_is_full_with_the_members_of_all_processes() -> None:
    one, other = await fleet(limits={"per_room": 2})
    members = [one.member("ann"), one.member("bob")]
    assert await joined(one, members[0]) is None
    assert await joined(one, members[0]) is None  # again: it counts once
    late = other.member("cy")
    assert await joined(other, late, per_room=1) is ROOM_LIMIT
    assert await joined(other, late) is None
    assert await joined(one, members[1]) is ROOM_LIMIT
    assert (one.hub.count("a"), one.gate.rooms.refused["room_limit"]) == (1, 1)
    late.left(1000)
    other.counts.work()
    assert await joined(one, members[1]) is None
    assert one.hub.leave(members[1], "a")
    assert not one.hub.leave(members[1], "a")
    members[0].left(1000)
    assert not one.fleet.held
    assert not other.fleet.held


@in_loop
async def test_member_gets_nothing_of_a_room_before_it_is_in() -> None:
    one, _ = await fleet()
    ann = one.member("ann")
    joining = asyncio.create_task(one.hub.join(ann, "a"))
    await settle()
    assert one.hub.publish("a", "early") == 0
    one.counts.work()
    assert await joining is None
    assert one.hub.publish("a", "now") == 1


@pytest.mark.parametrize("how", ["cancelled", "cancelled after the answer", "ended", "joins twice"])
@in_loop
async def test_what_was_counted_for_a_member_that_does_not_join_is_given_back(how: str) -> None:
    one, _ = await fleet()
    ann = one.member("ann")
    joins = [asyncio.create_task(one.hub.join(ann, "a")) for _ in range(1 + ("twice" in how))]
    await settle()
    if how == "cancelled":
        joins[0].cancel()
        await settle()
    elif how == "ended":
        ann.left(1000)
    one.counts.work()
    if how == "cancelled after the answer":
        joins[0].cancel()
    await settle()
    one.counts.work()
    held = {"r:a": 1} if "twice" in how else {}
    assert one.fleet.held == held
    assert +one.counts.between.counts[one.counts] == held


@in_loop
async def test_member_is_put_into_the_rooms_of_its_token_when_the_others_have_answered() -> None:
    one, _ = await fleet()
    wire = Wire().connected()
    member = HubMember(one.hub, wire.receive, wire.send, "ann", joins=("news",))
    member.accepted(None)
    assert member.rooms == ()
    await settle()
    one.counts.work()
    await settle()
    assert member.rooms == ("news",)
    member.left(1000)


@in_loop
async def test_hub_that_closes_waits_for_no_answer_of_the_others() -> None:
    one, _ = await fleet()
    wire = Wire().connected()
    HubMember(one.hub, wire.receive, wire.send, "ann", joins=("news",)).accepted(None)
    await settle()
    assert one.hub._placing
    await one.hub.close()
    await settle()
    assert not one.hub._placing
    one.counts.work()
    assert not +one.counts.between.counts[one.counts]


@in_loop
async def test_each_process_has_limits_of_rooms_of_its_own_where_the_settings_say_so() -> None:
    one, _ = await fleet(fleet={"rooms": False}, limits={"per_room": 1})
    assert await one.hub.join(one.member("ann"), "a") is None
    assert await one.hub.join(one.member("bob"), "a") is ROOM_LIMIT
    assert one.counts.commands == []

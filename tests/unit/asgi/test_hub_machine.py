"""Rooms and users are those that are there, after any joins, leaves and ends."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from tests.support.asgi_wire import Wire
from tidegate.asgi.hub import Hub
from tidegate.asgi.local import LocalGate
from tidegate.asgi.member import HubMember
from tidegate.asgi.packet import Packet

PER_ROOM = 3
USERS = st.sampled_from([None, "ann", "bob", "cy"])
ROOMS = st.sampled_from(["a", "b", "c"])


class HubMachine(RuleBasedStateMachine):
    """A hub beside a model of it: who is connected, and in which rooms."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        limits = {"limits": {"per_room": PER_ROOM}, "outbox": {"max_bytes": 1024}}
        self.hub = Hub(LocalGate(limits), clock=lambda: 0.0)
        self.wires: dict[HubMember, Wire] = {}
        self.rooms: dict[HubMember, list[str]] = {}
        self.number = 0

    def teardown(self) -> None:
        for member in list(self.rooms):
            member.left(1000)
        self.settle()
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.run(turns())

    @rule(target=members, user=USERS)
    def connect(self, user: str | None) -> HubMember:
        async def make() -> HubMember:
            wire = Wire().connected()
            member = HubMember(self.hub, wire.receive, wire.send, user)
            member.accepted(None)
            self.wires[member] = wire
            return member

        member: HubMember = self.run(make())
        self.rooms[member] = []
        return member

    @rule(member=members, room=ROOMS)
    def join(self, member: HubMember, room: str) -> None:
        if member not in self.rooms:
            return
        present = sum(room in joined for joined in self.rooms.values())
        fault = self.hub.join_here(member, room)
        if room in self.rooms[member]:
            assert fault is None
        elif present >= PER_ROOM:
            assert fault is not None
        else:
            assert fault is None
            self.rooms[member].append(room)

    @rule(member=members, room=ROOMS)
    def leave(self, member: HubMember, room: str) -> None:
        there = room in self.rooms.get(member, ())
        assert self.hub.leave(member, room) == there
        if there:
            self.rooms[member].remove(room)

    @rule(member=consumes(members), how=st.sampled_from(["left", "client", "server", "slow"]))
    def end(self, member: HubMember, how: str) -> None:
        if member not in self.rooms:
            return
        wire = self.wires[member]
        match how:
            case "left":
                member.left(1000)
            case "client":
                wire.leaves()
                self.run(member.next_event())
            case "server":
                wire.error = OSError("gone")
                self.run(self.send_to(member))
                self.settle()
            case "slow":
                wire.free.clear()
                for _ in range(4):
                    self.run(self.send_to(member, "x" * 400))
        del self.rooms[member]

    async def send_to(self, member: HubMember, text: str = "x") -> None:
        member.push(Packet(text), of_room=True)

    @rule(room=ROOMS)
    def send(self, room: str) -> None:
        self.number += 1
        text = str(self.number)
        there = {member for member, joined in self.rooms.items() if room in joined}
        assert self.run(self.hub.room(room).send(text)) == len(there)
        self.settle()
        assert {member for member in self.rooms if text in self.wires[member].texts} == there

    @rule(user=USERS)
    def tell(self, user: str | None) -> None:
        if user is None:
            return
        self.number += 1
        text = str(self.number)
        there = {member for member in self.rooms if member.user == user}
        assert self.run(self.hub.user(user).send(text)) == len(there)
        self.settle()
        assert {member for member in self.rooms if text in self.wires[member].texts} == there

    @invariant()
    def it_is_as_in_the_model(self) -> None:
        hub = self.hub
        assert set(hub.members) == set(self.rooms)
        names = {name for joined in self.rooms.values() for name in joined}
        for name in names:
            there = {member for member, joined in self.rooms.items() if name in joined}
            assert set(hub.room(name).members) == there
        stats = hub.stats()
        users = {member.user for member in self.rooms if member.user is not None}
        assert (stats.connections, stats.rooms) == (len(self.rooms), len(names))
        assert stats.users == len(users)
        assert set(hub.users) == users


HubMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
test_hub = HubMachine.TestCase

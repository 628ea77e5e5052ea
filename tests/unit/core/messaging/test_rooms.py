from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.core.codes import (
    ROOM_LIMIT,
    ROOM_USER_LIMIT,
    TOO_MANY_ROOMS,
    TOO_MANY_USER_ROOMS,
    Fault,
)
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings.rooms import RoomRule


class Member:
    def __init__(self) -> None:
        self.rooms: tuple[str, ...] = ()


def test_joining_twice_counts_once() -> None:
    rooms = Rooms[Member](per_room=1, rooms_per_connection=1)
    member = Member()
    assert [rooms.join(member, "lobby"), rooms.join(member, "lobby")] == [None, None]
    assert member.rooms == ("lobby",)
    assert rooms.count("lobby") == 1


def test_a_full_room_takes_a_member_when_another_leaves() -> None:
    rooms = Rooms[Member](per_room=2, rooms_per_connection=9)
    first, second, third = Member(), Member(), Member()
    assert [rooms.join(m, "lobby") for m in (first, second, third)] == [None, None, ROOM_LIMIT]
    assert third.rooms == ()
    assert list(rooms.members("lobby")) == [first, second]
    assert rooms.leave(first, "lobby")
    assert rooms.join(third, "lobby") is None


def test_a_member_is_in_so_many_rooms_and_no_more() -> None:
    rooms = Rooms[Member](per_room=9, rooms_per_connection=2)
    member = Member()
    assert [rooms.join(member, r) for r in "abc"] == [None, None, TOO_MANY_ROOMS]
    assert member.rooms == ("a", "b")
    assert len(rooms) == 2
    assert rooms.leave(member, "a")
    assert rooms.join(member, "c") is None
    assert member.rooms == ("b", "c")


@pytest.mark.parametrize(
    ("per_room", "per_connection", "reason"), [(0, 9, ROOM_LIMIT), (9, 0, TOO_MANY_ROOMS)]
)
def test_a_limit_of_zero_lets_none_join(per_room: int, per_connection: int, reason: object) -> None:
    rooms = Rooms[Member](per_room, per_connection)
    assert rooms.join(Member(), "lobby") is reason
    assert len(rooms) == 0


def test_leaving_a_room_that_one_is_not_in() -> None:
    rooms = Rooms[Member](9, 9)
    inside, outside = Member(), Member()
    rooms.join(inside, "lobby")
    assert not rooms.leave(outside, "lobby")
    assert not rooms.leave(inside, "hall")
    assert rooms.leave_all(outside) == ()
    assert rooms.count("lobby") == 1


def test_empty_rooms_are_forgotten() -> None:
    rooms = Rooms[Member](9, 9)
    member = Member()
    for room in "abc":
        rooms.join(member, room)
    rooms.leave(member, "b")
    assert len(rooms) == 2
    assert rooms.leave_all(member) == ("a", "c")
    assert member.rooms == ()
    assert len(rooms) == 0
    assert list(rooms.members("a")) == []


def test_members_of_one_room_share_its_name() -> None:
    rooms = Rooms[Member](9, 9)
    first, second = Member(), Member()
    rooms.join(first, "".join(("lob", "by")))
    rooms.join(second, "".join(("lob", "by")))
    assert first.rooms is second.rooms
    rooms.join(second, "hall")
    rooms.leave(second, "hall")
    assert first.rooms is second.rooms


def test_members_keep_the_order_in_which_they_joined() -> None:
    rooms = Rooms[Member](99, 9)
    members = [Member() for _ in range(20)]
    for member in members:
        rooms.join(member, "lobby")
    rooms.leave(members[3], "lobby")
    rooms.join(members[3], "lobby")
    assert list(rooms.members("lobby")) == [*members[:3], *members[4:], members[3]]


def test_lower_limits_take_no_member_out_and_hold_for_the_next_joins() -> None:
    rooms = Rooms[Member](per_room=9, rooms_per_connection=9)
    members = [Member() for _ in range(4)]
    for member in members[:3]:
        for room in "abc":
            assert rooms.join(member, room) is None
    rooms.apply(per_room=2, rooms_per_connection=2)
    assert [rooms.count(room) for room in "abc"] == [3, 3, 3]
    assert members[0].rooms == ("a", "b", "c")
    # One that is in stays in, and joins it again.
    assert rooms.join(members[0], "a") is None
    assert rooms.join(members[0], "d") is TOO_MANY_ROOMS
    assert rooms.join(members[3], "a") is ROOM_LIMIT
    for member in members[:2]:
        assert rooms.leave(member, "a")
    assert rooms.join(members[3], "a") is None
    assert rooms.per_connection == 2


def test_higher_limits_hold_at_once() -> None:
    rooms = Rooms[Member](per_room=1, rooms_per_connection=1)
    first, second = Member(), Member()
    rooms.join(first, "a")
    rooms.apply(per_room=2, rooms_per_connection=2)
    assert rooms.join(second, "a") is None
    assert rooms.join(first, "b") is None
    assert rooms.join(first, "c") is TOO_MANY_ROOMS


def test_a_user_is_in_so_many_rooms_over_all_connections() -> None:
    rooms = Rooms[Member](99, 9, rooms_per_user=2)
    phone, laptop = devices = [Member(), Member()]
    assert [rooms.join(phone, room, devices) for room in "aab"] == [None, None, None]
    assert rooms.join(laptop, "c", devices) is TOO_MANY_USER_ROOMS
    assert rooms.join(laptop, "a", devices) is None  # a room that the user is in already
    rooms.leave(phone, "a")
    assert rooms.join(laptop, "c", devices) is TOO_MANY_USER_ROOMS
    rooms.leave(laptop, "a")
    assert rooms.join(laptop, "c", devices) is None
    assert rooms.join(Member(), "d") is None  # without a user, there is no limit of a user
    assert rooms.refused["too_many_user_rooms"] == 2


def test_a_user_is_in_a_room_so_often() -> None:
    rules = Rules([RoomRule(pattern="seat:*", members_per_user=2)])
    rooms = Rooms[Member](99, 9, rules)
    devices = [Member() for _ in range(3)]
    assert [rooms.join(one, "seat:1", devices) for one in devices] == [None, None, ROOM_USER_LIMIT]
    assert rooms.join(devices[2], "hall", devices) is None
    assert rooms.join(devices[0], "seat:1", devices) is None
    other = Member()
    assert rooms.join(other, "seat:1", [other]) is None
    rooms.leave_all(devices[0])
    assert rooms.join(devices[2], "seat:1", devices) is None
    assert rooms.refused["room_user_limit"] == 1


PER_ROOM, PER_CONNECTION = 4, 3
MEMBERS_OF_USERS = ((0, 1, 2), (3, 4), (5,))  # the last one has no user
INDEXES = st.integers(0, 6)
NAMES = st.sampled_from("abcde")


class RoomsMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.room_rules = Rules()
        self.rooms = Rooms[Member](PER_ROOM, PER_CONNECTION, self.room_rules)
        self.per_room, self.per_connection = PER_ROOM, PER_CONNECTION
        self.per_user: int | None = None
        self.in_room: int | None = None
        self.refused = 0
        self.members = [Member() for _ in range(7)]
        self.inside: set[tuple[int, str]] = set()

    def room(self, name: str) -> set[int]:
        return {i for i, room in self.inside if room == name}

    def of(self, index: int) -> set[str]:
        return {room for i, room in self.inside if i == index}

    def user(self, index: int) -> tuple[int, ...]:
        return next((user for user in MEMBERS_OF_USERS if index in user), ())

    def fault(self, index: int, name: str) -> Fault | None:
        """Why a member may not join, counted anew."""
        if len(self.of(index)) >= self.per_connection:
            return TOO_MANY_ROOMS
        if len(self.room(name)) >= self.per_room:
            return ROOM_LIMIT
        user = self.user(index)
        if user and self.in_room is not None and len(self.room(name) & {*user}) >= self.in_room:
            return ROOM_USER_LIMIT
        rooms = {room for i, room in self.inside if i in user}
        if user and self.per_user is not None and name not in rooms and len(rooms) >= self.per_user:
            return TOO_MANY_USER_ROOMS
        return None

    @rule(
        per_room=st.integers(0, 6),
        per_connection=st.integers(0, 5),
        per_user=st.none() | st.integers(0, 5),
        in_room=st.none() | st.integers(0, 3),
    )
    def apply(
        self, per_room: int, per_connection: int, per_user: int | None, in_room: int | None
    ) -> None:
        self.per_room, self.per_connection = per_room, per_connection
        self.per_user, self.in_room = per_user, in_room
        self.rooms.apply(per_room, per_connection, per_user)
        self.room_rules.apply([RoomRule(members_per_user=in_room)])
        assert self.rooms.per_connection == per_connection

    @rule(index=INDEXES, name=NAMES)
    def join(self, index: int, name: str) -> None:
        expected = None if (index, name) in self.inside else self.fault(index, name)
        devices = [self.members[i] for i in self.user(index)]
        assert self.rooms.join(self.members[index], name, devices) is expected
        if expected is None:
            self.inside.add((index, name))
        else:
            self.refused += 1

    @rule(index=INDEXES, name=NAMES)
    def leave(self, index: int, name: str) -> None:
        assert self.rooms.leave(self.members[index], name) == ((index, name) in self.inside)
        self.inside.discard((index, name))

    @rule(index=INDEXES)
    def leave_all(self, index: int) -> None:
        assert set(self.rooms.leave_all(self.members[index])) == self.of(index)
        self.inside = {(i, room) for i, room in self.inside if i != index}

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "rooms"):
            return
        for index, member in enumerate(self.members):
            assert len(member.rooms) == len(set(member.rooms))
            assert set(member.rooms) == self.of(index)
        for name in "abcde":
            expected = {self.members[i] for i in self.room(name)}
            assert set(self.rooms.members(name)) == expected
            assert self.rooms.count(name) == len(expected)
        assert len(self.rooms) == len({room for _, room in self.inside})
        assert self.rooms.refused.total() == self.refused


TestRoomsMachine = RoomsMachine.TestCase
TestRoomsMachine.settings = settings(max_examples=30, stateful_step_count=40)


def test_threads_never_overfill_a_room() -> None:
    rooms = Rooms[Member](per_room=3, rooms_per_connection=2)
    over: list[int] = []

    def hammer() -> None:
        member = Member()
        for step in range(800):
            rooms.join(member, "lobby")
            rooms.join(member, f"room{step % 3}")
            if rooms.count("lobby") > 3 or len(member.rooms) > 2:
                over.append(step)
            rooms.leave_all(member)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert over == []
    assert len(rooms) == 0

"""Who is in a room: once for a user, with a grace time, and changes that add up."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.core.messaging.presence import Change, Presence, Present

ROOMS, USERS = st.sampled_from("rs"), st.sampled_from(["ann", "bob", "cat"])


def test_a_user_comes_with_the_first_connection_and_leaves_with_the_last() -> None:
    presence = Presence()
    presence.join("r", "ann", b"{}")
    presence.join("r", "ann", b"{}")
    assert presence.take("r") == Change([Present("ann", 2, b"{}")], [], 1)
    presence.leave("r", "ann", 0.0, 0.0)
    assert presence.take("r") is None
    presence.leave("r", "ann", 0.0, 0.0)
    assert presence.take("r") == Change([], ["ann"], 0)
    assert len(presence) == 0


def test_a_reconnect_within_the_grace_time_is_no_leave() -> None:
    presence = Presence()
    presence.join("r", "ann")
    presence.take("r")
    presence.leave("r", "ann", 10.0, 5.0)
    assert list(presence.users("r")) == [Present("ann", 0, None)]
    presence.tick(14.9)
    presence.join("r", "ann", b"new")
    presence.tick(99.0)
    assert presence.take("r") is None
    assert list(presence.users("r")) == [Present("ann", 1, b"new")]


def test_a_user_leaves_when_the_grace_time_is_over() -> None:
    presence = Presence()
    presence.join("r", "ann")
    presence.take("r")
    presence.leave("r", "ann", 10.0, 5.0)
    presence.tick(15.0)
    assert presence.take("r") == Change([], ["ann"], 0)


def test_who_comes_and_goes_between_two_looks_has_not_changed() -> None:
    presence = Presence()
    presence.join("r", "ann")
    presence.leave("r", "ann", 0.0, 0.0)
    assert not presence.changed
    assert len(presence) == 0
    presence.join("r", "bob")
    presence.take("r")
    presence.leave("r", "bob", 0.0, 0.0)
    presence.join("r", "bob")
    assert presence.take("r") is None
    assert presence.count("r") == 1


class Model(RuleBasedStateMachine):
    """Against a model that counts connections and deadlines; a watcher adds up the changes."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence()
        self.now = 0.0
        self.devices: dict[tuple[str, str], int] = {}
        self.ends: dict[tuple[str, str], float] = {}
        self.seen: dict[str, set[str]] = {"r": set(), "s": set()}

    @rule(room=ROOMS, user=USERS)
    def join(self, room: str, user: str) -> None:
        self.presence.join(room, user)
        self.devices[room, user] = self.devices.get((room, user), 0) + 1
        self.ends.pop((room, user), None)

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), grace=st.sampled_from([0.0, 2.0]))
    def leave(self, data: st.DataObject, grace: float) -> None:
        room, user = key = data.draw(st.sampled_from(sorted(self.devices)))
        self.presence.leave(room, user, self.now, grace)
        self.devices[key] -= 1
        if not self.devices[key]:
            del self.devices[key]
            if grace:
                self.ends[key] = self.now + grace

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.presence.tick(self.now)
        self.ends = {key: end for key, end in self.ends.items() if end > self.now}

    @rule(room=ROOMS)
    def look(self, room: str) -> None:
        change = self.presence.take(room)
        assert room not in self.presence.changed
        if change is not None:
            joined, left = {one.user for one in change.joined}, set(change.left)
            assert joined or left
            assert not joined & self.seen[room], "joined twice"
            assert left <= self.seen[room], "left without having joined"
            self.seen[room] = self.seen[room] - left | joined
            assert change.total == len(self.seen[room])
        assert self.seen[room] == self.here(room)

    def here(self, room: str) -> set[str]:
        return {user for at, user in (*self.devices, *self.ends) if at == room}

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        for room in "rs":
            users = {one.user: one.devices for one in self.presence.users(room)}
            assert set(users) == self.here(room)
            assert self.presence.count(room) == len(users)
            for user, devices in users.items():
                assert devices == self.devices.get((room, user), 0)
            changes = self.here(room) != self.seen[room]
            assert (room in self.presence.changed) is changes


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=200, stateful_step_count=40)

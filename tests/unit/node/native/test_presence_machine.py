"""Joins, leaves, losses, returns and looks in any order: what is told of a room adds up to it."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.members import EVER
from tests.support.watching import View
from tests.unit.node.native.native_world import Peer, World
from tidegate.core.codes import RESET
from tidegate.node.placing import Placing

GRACE = {"now": 0.0, "soon": 1.0, "big": 1.0}
FEW = 2
RULES = [
    {"pattern": "now", "presence": "members", "presence_grace": 0.0},
    {"pattern": "soon", "presence": "members", "presence_grace": 1.0},
    {"pattern": "big", "presence": "members", "presence_grace": 1.0, "presence_users": FEW},
]
LIMITS = {"per_user": 10_000, "per_ip": 10_000}
ROOMS = st.sampled_from(sorted(GRACE))
USERS = st.sampled_from(["ann", "bob", "cat", None])
WHICH = st.integers(0, 99)


class Machine(RuleBasedStateMachine):
    """The model: who is a member, who is in its grace time, and what each watcher was told."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(queued=True, limits=LIMITS, rooms={"rules": RULES})
        self.placing = Placing(self.world.rules, self.world.delivery, self.world.app)
        self.people: list[Peer] = []
        self.away: list[tuple[Peer, list[str]]] = []
        self.ends: dict[tuple[str, str], float] = {}
        self.views: dict[Peer, View] = {}

        for user in ("ann", "bob"):
            self.open(user)

    # What the model does.

    def devices(self, room: str, user: str) -> int:
        return sum(one.user == user and room in one.rooms for one in self.people)

    def reality(self, room: str) -> dict[str, int]:
        """The users of a room with their devices, 0 in the grace time."""
        here = {one.user for one in self.people if room in one.rooms}
        here |= {user for where, user in self.ends if where == room}
        return {user: self.devices(room, user) for user in here if user is not None}

    def came(self, peer: Peer) -> None:
        for room in peer.rooms:
            self.ends.pop((room, str(peer.user)), None)

    def lost(self, peer: Peer, rooms: tuple[str, ...]) -> None:
        for room in rooms:
            if peer.user is not None and not self.devices(room, peer.user) and GRACE[room]:
                self.ends[room, peer.user] = self.world.now + GRACE[room]

    def listen(self) -> None:
        for peer in self.people:
            for message in peer.take():
                self.views[peer].hear(message)

    # What happens.

    @precondition(lambda self: len(self.people) < 6)
    @rule(user=USERS)
    def open(self, user: str | None) -> None:
        peer = self.world.open(user)
        self.people.append(peer)
        self.views[peer] = View()

    @precondition(lambda self: self.people)
    @rule(which=WHICH, room=ROOMS, watch=st.sampled_from([True, True, False]))
    def join(self, which: int, room: str, watch: bool) -> None:
        peer = self.some(which)
        self.tell(peer, type="join", room=room, presence=watch)
        self.came(peer)

    @precondition(lambda self: self.people)
    @rule(which=WHICH, room=ROOMS)
    def leave(self, which: int, room: str) -> None:
        peer = self.some(which)
        self.tell(peer, type="leave", room=room)
        self.views[peer].rooms.pop(room, None)

    @precondition(lambda self: self.people)
    @rule(which=WHICH, room=ROOMS)
    def place(self, which: int, room: str) -> None:
        """An operator puts a connection into a room, or takes it out."""
        peer = cast(Any, self.some(which))
        if room in peer.rooms:
            self.placing.leave(peer, room)
            self.views[peer].rooms.pop(room, None)
        else:
            self.placing.join(peer, room)
            self.came(peer)

    @precondition(lambda self: self.people)
    @rule(which=WHICH, room=ROOMS)
    def ask(self, which: int, room: str) -> None:
        self.tell(self.some(which), type="presence", room=room, id=1)

    @precondition(lambda self: any(one.user is None for one in self.people))
    @rule(user=st.sampled_from(["ann", "bob"]))
    def identify(self, user: str) -> None:
        peer = next(one for one in self.people if one.user is None)
        self.tell(peer, type="auth", token=self.world.token(user))
        assert peer.user == user
        self.came(peer)

    @precondition(lambda self: self.people)
    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        peer = self.some(which)
        rooms = peer.rooms
        self.people.remove(peer)
        self.world.leave(peer)
        self.lost(peer, rooms)

    @precondition(lambda self: self.people)
    @rule(which=WHICH)
    def park(self, which: int) -> None:
        """A connection with a session is lost."""
        peer = self.some(which)
        self.people.remove(peer)
        peer.end(RESET)
        self.away.append((peer, self.world.delivery.park(cast(Any, peer))))
        self.lost(peer, peer.rooms)

    @precondition(lambda self: self.away)
    @rule(which=WHICH, back=st.booleans())
    def resume(self, which: int, back: bool) -> None:
        """Its client comes back, or does not in time."""
        old, watched = self.away.pop(which % len(self.away))
        if not back:
            self.world.delivery.gone(cast(Any, old))
            return
        peer = self.world.open(old.user)
        self.world.users.remove(cast(Any, peer))
        self.world.delivery.replace(cast(Any, old), cast(Any, peer))
        self.people.append(peer)
        self.views[peer] = View()
        for room in watched:
            self.tell(peer, type="join", room=room, presence=True)
        self.came(peer)

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds
        self.ends = {key: end for key, end in self.ends.items() if end > self.world.now}
        self.world.presence.tick(self.world.now)

    @rule()
    def flush(self) -> None:
        self.world.fanout.step(EVER)
        self.listen()

    @rule(full=st.booleans())
    def look(self, full: bool) -> None:
        """Whatever was told until now, it is complete after a second."""
        if full:  # of other things: nothing more is taken
            self.world.fanout.backlog += 1 << 30
            self.pass_time(1.0)
            self.world.fanout.backlog -= 1 << 30
        self.pass_time(1.0)
        self.flush()
        for peer in self.people:
            for room, known in self.views[peer].rooms.items():
                users = set(self.reality(room))
                assert known.count == len(users), room
                assert known.users == (users if len(users) <= FEW or room != "big" else None)

    def some(self, which: int) -> Peer:
        return self.people[which % len(self.people)]

    def tell(self, peer: Peer, **message: Any) -> None:
        """Give a message of a peer to the application; it hears what comes at once."""
        for answer in self.world.say(peer, **message):
            self.views[peer].hear(answer)

    @invariant()
    def the_state_is_reality(self) -> None:
        for room in GRACE:
            state = self.world.presence.state(room)
            assert state is not None
            reality = self.reality(room)
            assert state.total == len(reality)
            if state.users is not None:
                assert {one.user: one.devices for one in state.users} == reality

    def teardown(self) -> None:
        for peer in self.people:
            self.world.leave(peer)
        for peer, _ in self.away:
            self.world.delivery.gone(cast(Any, peer))
        self.world.now += 2
        self.world.presence.tick(self.world.now)
        presence = self.world.presence
        assert (len(presence._presence), presence._watched, presence._counted) == (0, {}, set())


def test_presence_in_any_order_adds_up_to_reality() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))

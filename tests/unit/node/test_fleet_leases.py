"""Leases that the fleet counts, with a backplane that answers late, refuses, or is away."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support import aio
from tests.support.brokers import ToyBroker
from tests.support.delivery import FakeNode
from tests.support.leases import Between, Counts
from tests.support.members import EVER
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import (
    BACKPLANE_DOWN,
    FLEET_DOWN,
    FLEET_LIMIT,
    IP_LIMIT,
    NOT_JOINED,
    OVERLOADED,
    ROOM_LIMIT,
    TIER_LIMIT,
    USER_LIMIT,
)
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.node.fleet_leases import FleetLeases, fleet_leases

ANN, BOB = Identity("ann"), Identity("bob", "paid")
PER_ROOM = 2
LIMITS = {"per_ip": 3, "per_user": 2, "connections": 50}
TIERS = {"paid": {"connections": 2, "per_user": 2}}


class Node:
    """The leases of one node, and what it was told of them."""

    def __init__(self, between: Between, **fleet: Any) -> None:
        self.settings = Settings.from_mapping({"limits": LIMITS, "tiers": TIERS, "fleet": fleet})
        self.counts = Counts(between)
        self.closed = 0
        self.fleet = FleetLeases(self.settings, self.counts, Stats(), self.close)
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers, self.fleet)
        self.leases: list[Lease] = []
        self.broker = ToyBroker(late=0)
        self.members = FakeNode(self.broker, PER_ROOM, leases=self.fleet)
        self.names = 0
        aio.run(self.fleet.start())

    def connect(self) -> Any:
        self.names += 1
        return self.members.connect(f"c{self.names}")

    def close(self) -> None:
        self.closed += 1

    def acquire(self, address: str, identity: Identity = ANONYMOUS) -> list[Reject | None]:
        """Ask for a lease; what is told of it later."""
        told: list[Reject | None] = []
        lease = self.tracker.acquire(address, identity)
        if isinstance(lease, Reject):
            return [lease]
        self.leases.append(lease)

        def done(reject: Reject | None) -> None:
            told.append(reject)
            if reject is not None:
                self.release(lease)

        self.fleet.confirm(lease, done)
        return told

    def release(self, lease: Lease) -> None:
        self.leases.remove(lease)
        self.tracker.release(lease)


def pair(**fleet: Any) -> tuple[Node, Node]:
    between = Between()
    return Node(between, **fleet), Node(between, **fleet)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([("a", ANN), ("b", ANN)], ("c", ANN), USER_LIMIT),
        ([("a", ANONYMOUS)] * 3, ("a", ANN), IP_LIMIT),
        ([("a", BOB), ("b", Identity("cid", "paid"))], ("c", Identity("dan", "paid")), TIER_LIMIT),
        (
            [("a", ANN), ("b", BOB), ("c", ANONYMOUS), ("d", ANONYMOUS)],
            ("e", ANONYMOUS),
            FLEET_LIMIT,
        ),
    ],
)
def test_confirm_beyond_a_limit_of_the_fleet_refuses_and_counts_nothing(
    first: list[tuple[str, Identity]], second: tuple[str, Identity], reason: Any
) -> None:
    one, other = pair(connections=4)
    for address, identity in first:
        told = one.acquire(address, identity)
        one.counts.work()
        assert told == [None]
    told = other.acquire(*second)
    assert told == []  # it is not known yet
    other.counts.work()
    (reject,) = told
    assert reject is not None
    assert reject.reason is reason
    assert reject.limit is not None
    assert not other.fleet.held
    one.release(one.leases[-1])
    one.counts.work()
    told = other.acquire(*second)
    other.counts.work()
    assert told == [None]


def test_release_before_the_fleet_has_answered_counts_nothing_and_tells_nothing() -> None:
    node, _ = pair()
    told = node.acquire("a", ANN)
    node.release(node.leases[0])
    node.counts.work()
    assert told == []
    assert not node.fleet.held
    assert not +node.counts.between.counts[node.counts]


@pytest.mark.parametrize(("when_down", "expected"), [("local", None), ("refuse", FLEET_DOWN)])
@pytest.mark.parametrize("asked_before", [True, False])
def test_while_the_backplane_is_away_the_settings_decide(
    when_down: str, expected: Any, asked_before: bool
) -> None:
    node, _ = pair(when_down=when_down)
    if asked_before:
        told = node.acquire("a", ANN)
        node.counts.cut()
    else:
        node.counts.cut()
        told = node.acquire("a", ANN)
    (reject,) = told
    assert (reject and reject.reason) is expected
    node.counts.restore()
    assert node.counts.between.sum("u:ann") == (expected is None)


def test_identified_moves_the_counts_of_the_fleet_within_its_limits() -> None:
    one, other = pair()
    for node in (one, other):
        node.acquire("a", ANN)
        node.counts.work()
    told: list[Reject | None] = []
    one.acquire("b")
    one.counts.work()
    lease = one.leases[-1]
    for identity, reason in ((ANN, USER_LIMIT), (BOB, None)):
        assert one.tracker.identify(lease, identity) is None
        one.fleet.identified(lease, told.append)
        one.counts.work()
        reject = told.pop()
        assert (reject and reject.reason) is reason
    assert sorted(lease.fleet) == ["c", "i:b", "t:paid", "u:bob"]
    assert (one.fleet.held["u:ann"], one.fleet.held["u:bob"]) == (1, 1)
    one.release(lease)
    one.counts.work()
    assert one.counts.between.sum("u:bob") == 0


def test_a_lease_that_is_replaced_takes_its_counts_along() -> None:
    node, _ = pair()
    node.acquire("a", ANN)
    node.counts.work()
    new = node.tracker.replace(node.leases[0], "b", ANN)
    assert isinstance(new, Lease)
    node.counts.work()
    assert sorted(new.fleet) == ["c", "i:b", "u:ann"]
    assert node.fleet.held == {"c": 1, "i:b": 1, "u:ann": 1}
    node.tracker.release(new)
    node.counts.work()
    assert not +node.counts.between.counts[node.counts]


@pytest.mark.parametrize(("when_lost", "closed"), [("keep", 0), ("close", 1)])
def test_when_leases_are_lost_connections_stay_or_are_closed(when_lost: str, closed: int) -> None:
    node, _ = pair(when_lost=when_lost)
    node.counts.lost()
    assert node.closed == closed


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({}, "needs backplane.url"),
        ({"backplane": {"url": "nats://x"}}, "NATS cannot count"),
        ({"backplane": {"url": "kafka://x"}}, "Kafka cannot count"),
        ({"backplane": {"url": "redis://x"}, "fleet": {"limits": False}}, "needs fleet.limits"),
    ],
)
def test_a_limit_of_the_fleet_needs_what_counts(sections: dict[str, Any], problem: str) -> None:
    sections = {**sections, "fleet": {**sections.get("fleet", {}), "connections": 5}}
    with pytest.raises(Exception, match=problem):
        fleet_leases(Settings.from_mapping(sections), "n", Stats(), lambda: None)


# Members of rooms.


def test_join_beyond_a_limit_of_the_fleet_is_refused_and_nobody_is_told_of_it() -> None:
    one, other = pair()
    for node in (one, other):
        node.members.join(node.connect())
        assert node.members.answers == []  # it is not known yet
        node.counts.work()
        assert node.members.answers == [None]
    late = other.connect()
    other.members.join(late)
    other.members.publish(b"1")
    other.counts.work()
    other.members.fanout.step(EVER)
    assert other.members.answers[1:] == [None, ROOM_LIMIT]  # of the publication, and of the join
    assert (late.rooms, late.got) == ((), [])
    assert other.members.moved == [("c1", "room", True)]
    assert other.members.rooms.refused["room_limit"] == 1
    one.members.delivery.gone(next(iter(one.members.rooms.members("room"))))
    one.counts.work()
    other.members.join(late)
    other.counts.work()
    assert other.members.answers[3:] == [None]
    assert other.fleet.held == {"r:room": 2}


def test_join_again_before_the_fleet_has_answered_waits_for_the_same_answer() -> None:
    node, _ = pair()
    ann = node.connect()
    node.members.join(ann)
    node.members.join(ann)
    assert len(node.counts.commands) == 1
    node.counts.work()
    assert node.members.answers == [None, None]


@pytest.mark.parametrize("echo", [True, False])
def test_what_is_published_before_the_answer_waits_and_keeps_its_order(echo: bool) -> None:
    one, other = pair()
    ann, bob = one.connect(), one.connect()
    one.members.join(bob)
    one.counts.work()
    one.members.join(ann)
    for data in (b"1", b"2"):
        one.members.publish(data, ann, echo)
    one.members.publish(b"0", bob)
    one.counts.work()
    one.members.publish(b"3", ann, echo)
    one.members.fanout.step(EVER)
    assert bob.got == [b"None:0;None:1;None:2;None:3;"]
    assert ann.got == ([b"None:1;None:2;None:3;"] if echo else [])
    assert one.members.answers == [None] * 6
    late = other.connect()
    other.members.join(late)
    other.members.publish(b"4", late)
    other.counts.work()
    assert other.members.answers == [ROOM_LIMIT, ROOM_LIMIT]
    assert other.broker.log == [("room", None)]


def test_so_much_may_wait_for_the_answer_of_the_fleet() -> None:
    node, _ = pair()
    ann = node.connect()
    node.members.join(ann)
    for _ in range(100):
        node.members.publish(b"", ann)
    assert node.members.answers == [OVERLOADED]
    node.counts.work()
    assert node.members.answers == [OVERLOADED] + [None] * 100


@pytest.mark.parametrize("ends", ["answered", "leave", "gone"])
def test_so_many_bytes_may_wait_for_the_answer_of_the_fleet(ends: str) -> None:
    node, _ = pair()
    ann, bob = node.connect(), node.connect()
    node.members.join(ann)
    large = bytes(9 << 20)
    for _ in range(2):
        node.members.publish(large, ann)
    assert node.members.answers == [OVERLOADED]
    if ends == "leave":
        node.members.delivery.leave(ann, "room")
    elif ends == "gone":
        node.members.delivery.gone(ann)
    node.counts.work()
    node.members.answers.clear()
    node.members.join(bob)  # what waited is given back
    node.members.publish(large, bob)
    assert node.members.answers == []
    node.counts.work()
    assert node.members.answers == [None, None]


@pytest.mark.parametrize(
    ("how", "told"), [("leave", [NOT_JOINED]), ("gone", []), ("park", [])], ids=str
)
def test_who_goes_before_the_fleet_has_answered_is_counted_nowhere(how: str, told: Any) -> None:
    node, _ = pair()
    ann = node.connect()
    node.members.join(ann)
    end = getattr(node.members.delivery, how)
    end(ann, "room") if how == "leave" else end(ann)
    node.counts.work()
    assert (node.members.answers, ann.rooms, node.members.moved) == (told, (), [])
    assert not node.fleet.held
    assert not +node.counts.between.counts[node.counts]
    assert node.broker.wanted == set()


def test_a_member_whose_client_is_away_and_comes_back_stays_counted() -> None:
    node, _ = pair()
    ann, again = node.connect(), node.connect()
    node.members.join(ann)
    node.counts.work()
    node.members.delivery.park(ann)
    assert node.fleet.held == {"r:room": 1}
    node.members.delivery.replace(ann, again)
    node.members.delivery.gone(ann)
    assert node.fleet.held == {"r:room": 1}
    node.members.delivery.gone(again)
    assert not node.fleet.held


@pytest.mark.parametrize(("when_down", "expected"), [("local", None), ("refuse", BACKPLANE_DOWN)])
@pytest.mark.parametrize("asked_before", [True, False])
def test_while_the_backplane_is_away_the_settings_decide_about_joins(
    when_down: str, expected: Any, asked_before: bool
) -> None:
    node, _ = pair(when_down=when_down)
    if not asked_before:
        node.counts.cut()
    ann, bob, cat = node.connect(), node.connect(), node.connect()
    for one in (ann, bob, cat):
        node.members.join(one)
    if asked_before:
        node.counts.cut()
    third = ROOM_LIMIT if asked_before or expected is None else expected
    assert sorted(map(str, node.members.answers)) == sorted(map(str, (expected, expected, third)))
    node.counts.restore()
    assert node.counts.between.sum("r:room") == (2 if expected is None else 0)
    assert node.broker.wanted == ({"room"} if expected is None else set())


class Fleet(RuleBasedStateMachine):
    """Three nodes: what is counted is what they hold, and no limit is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.between = Between()
        self.nodes = [Node(self.between, connections=6, when_down="refuse") for _ in range(3)]
        self.people = [[node.connect() for _ in range(3)] for node in self.nodes]

    numbers = st.integers(0, 2)

    @rule(
        number=numbers,
        address=st.sampled_from("ab"),
        identity=st.sampled_from([ANONYMOUS, ANN, BOB]),
    )
    def attempt(self, number: int, address: str, identity: Identity) -> None:
        self.nodes[number].acquire(address, identity)

    @rule(number=numbers)
    def work(self, number: int) -> None:
        self.nodes[number].counts.work()

    @rule(number=numbers, which=st.integers(0, 9))
    def release(self, number: int, which: int) -> None:
        node = self.nodes[number]
        if node.leases:
            node.release(node.leases[which % len(node.leases)])

    @rule(number=numbers, which=st.integers(0, 9), identity=st.sampled_from([ANN, BOB]))
    def identify(self, number: int, which: int, identity: Identity) -> None:
        node = self.nodes[number]
        confirmed = [lease for lease in node.leases if lease.fleet and lease.user is None]
        if not confirmed:
            return
        lease = confirmed[which % len(confirmed)]
        if node.tracker.identify(lease, identity) is None:
            node.fleet.identified(
                lease, lambda reject: None if reject is None else node.release(lease)
            )

    @rule(number=numbers, which=st.integers(0, 9), address=st.sampled_from("cd"))
    def replace(self, number: int, which: int, address: str) -> None:
        node = self.nodes[number]
        confirmed = [lease for lease in node.leases if lease.fleet]
        if confirmed:
            lease = confirmed[which % len(confirmed)]
            identity = Identity(lease.user, lease.tier)
            node.counts.work()  # nothing of this lease is on its way
            if not lease.held or not lease.fleet:
                return
            node.leases.remove(lease)
            new = node.tracker.replace(lease, address, identity)
            if isinstance(new, Lease):
                node.leases.append(new)

    # Rooms.

    who = st.integers(0, 2)
    room = st.sampled_from("xy")

    @rule(number=numbers, who=who, room=room)
    def join(self, number: int, who: int, room: str) -> None:
        self.nodes[number].members.join(self.people[number][who], room)

    @rule(number=numbers, who=who, room=room)
    def leave(self, number: int, who: int, room: str) -> None:
        self.nodes[number].members.delivery.leave(self.people[number][who], room)

    @rule(number=numbers, who=who, comes_back=st.none() | st.booleans())
    def end(self, number: int, who: int, comes_back: bool | None) -> None:
        node, gone = self.nodes[number], self.people[number][who]
        self.people[number][who] = new = node.connect()
        gone.open = False
        if comes_back is not None:
            node.members.delivery.park(gone)
            if comes_back:
                new.id = gone.id
                node.members.delivery.replace(gone, new)
        node.members.delivery.gone(gone)

    @rule(number=numbers, late=st.integers(0, 2), refuses=st.booleans())
    def broker(self, number: int, late: int, refuses: bool) -> None:
        broker = self.nodes[number].broker
        broker.settle()  # what is on its way keeps its order
        broker.late = late
        broker.faults.clear()
        if refuses:
            broker.faults["x"] = BACKPLANE_DOWN

    @rule(number=numbers)
    def answer(self, number: int) -> None:
        self.nodes[number].broker.step()

    @precondition(lambda self: all(node.counts.up for node in self.nodes))
    @rule(number=numbers)
    def cut(self, number: int) -> None:
        self.nodes[number].counts.cut()

    @rule()
    def restore_links(self) -> None:
        for node in self.nodes:
            if not node.counts.up:
                node.counts.restore()

    @invariant()
    def held_is_what_the_leases_say(self) -> None:
        for node in self.nodes:
            names = Counter(name for lease in node.leases for name in lease.fleet)
            asked = node.members.delivery._members.asked
            for name in node.members.rooms:
                members = set(node.members.rooms.members(name)) - set(asked.get(name, ()))
                names[f"r:{name}"] = len(members)
            assert +names == node.fleet.held

    @invariant()
    def no_limit_is_passed(self) -> None:
        assert sum(node.fleet.held["c"] for node in self.nodes) <= 6
        for user in ("ann", "bob"):
            assert sum(node.fleet.held[f"u:{user}"] for node in self.nodes) <= 2
        for room in "xy":
            assert sum(node.fleet.held[f"r:{room}"] for node in self.nodes) <= PER_ROOM

    @invariant()
    def what_is_counted_is_what_is_held(self) -> None:
        for node in self.nodes:
            if node.counts.up and not node.counts.commands:
                assert +self.between.counts[node.counts] == node.fleet.held

    def teardown(self) -> None:
        self.restore_links()
        for node in self.nodes:
            node.counts.work()
            for lease in tuple(node.leases):
                node.release(lease)
            for person in self.people[self.nodes.index(node)]:
                node.members.delivery.gone(person)
            node.counts.work()
            node.broker.settle()
            assert not node.members.delivery._members.asked
            comes = Counter(one[:2] for one in node.members.moved if one[2])
            assert comes == Counter(one[:2] for one in node.members.moved if not one[2])
            assert not node.fleet.held
            assert not +self.between.counts[node.counts]


TestFleet = Fleet.TestCase
TestFleet.settings = profile(max_examples=150, stateful_step_count=40)

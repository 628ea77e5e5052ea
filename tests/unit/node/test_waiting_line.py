from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject, Verdict
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import IP_LIMIT, QUEUE_FULL, WAIT_TIMEOUT, WAITING
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.node.line import Away, Place, WaitingLine

WALL = 1_800_000_000.0
SECRET = "the-same-secret-on-all-the-nodes"


class Peer:
    """A held connection that keeps what it is sent."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.pending_auth = True
        self.opened_at = 0.0
        self.sent: list[dict[str, Any]] = []
        self.ended: tuple[int, str, str] | None = None

    @property
    def closed(self) -> bool:
        return self.ended is not None

    def send(self, message: str) -> None:
        self.sent.append(json.loads(message))

    def close(self, code: int, reason: str, cause: str) -> None:
        self.ended = (code, reason, cause)


class Node:
    """A line with its neighbours, on a clock of its own."""

    def __init__(self, connections: int = 1, **sections: Any) -> None:
        limits = {"connections": connections, **sections.pop("limits", {})}
        room = {"enabled": True, "secret": SECRET, **sections.pop("waiting_room", {})}
        settings = Settings.from_mapping(
            {"pacing": {"enabled": False}, "limits": limits, "waiting_room": room, **sections}
        )
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.stats = Stats()
        shedder = LoadShedder(settings, 0.0)
        self.admission = Admission(settings, self.tracker, self.stats, shedder, lambda: 0.0)
        self.now = 100.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.line = WaitingLine(
            settings,
            self.admission,
            self.tracker,
            self.stats,
            self.schedule,
            lambda: self.now,
        )
        self.line.let_in = lambda connection, place: self.admitted.append(cast(Any, connection))
        self.admitted: list[Peer] = []

    def schedule(self, seconds: float, work: Callable[[], None]) -> None:
        if seconds:
            self.later.append((self.now + seconds, work))
        else:
            self.soon.append(work)

    @property
    def wall(self) -> float:
        return WALL + self.now

    def turn(self) -> None:
        while self.soon:
            self.soon.pop()()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.line.tick(self.now)
        self.turn()

    def enter(self, number: int = 9, identity: Identity = ANONYMOUS) -> Lease:
        verdict = self.admission.admit(attempt(number, identity), self.now)
        assert isinstance(verdict, Lease)
        return verdict

    def leave(self, lease: Lease) -> None:
        self.tracker.release(lease)
        self.line.freed()
        self.turn()

    def hold(self, number: int) -> Peer:
        asked = attempt(number)
        place = self.line.hold(asked, False, self.now)
        assert isinstance(place, Place)
        lease = Lease(asked.address, None, None)
        lease.held = False
        peer = Peer(lease)
        self.line.seated(cast(Any, peer), place)
        self.line.greet(cast(Any, peer), self.now)
        self.turn()
        return peer

    def ask(
        self, number: int, ticket: str | None = None, identity: Identity = ANONYMOUS
    ) -> Away | Verdict:
        """What a client without the native protocol gets, as the gate would decide."""
        asked = attempt(number, identity)
        found = None if ticket is None else self.line.read(ticket, asked, self.wall)
        if found is None:
            verdict = self.admission.admit(asked, self.now)
        else:
            verdict = self.line.back(found, asked, self.now, self.wall)
        if isinstance(verdict, Reject) and verdict.reason is WAITING:
            answer = self.line.send_away(asked, found, self.now, self.wall)
            self.turn()
            return answer
        return verdict

    def away(self, number: int, ticket: str | None = None) -> Away:
        answer = self.ask(number, ticket)
        assert isinstance(answer, Away), answer
        return answer


def attempt(number: int, identity: Identity = ANONYMOUS) -> Attempt:
    return Attempt(f"192.0.2.{number}", "/ws", identity)


def refused(verdict: object) -> str:
    assert isinstance(verdict, Reject), verdict
    return verdict.reason.name


# Held on an open connection.


def test_those_who_waited_are_let_in_at_the_pace() -> None:
    node = Node(20, pacing={"enabled": True, "rate": 100.0, "burst": 5})
    leases = [node.enter(number) for number in range(20)]
    peers = [node.hold(number) for number in range(20)]
    node.now += 10.0
    for lease in leases:
        node.leave(lease)
    assert node.admitted == peers[:5]
    # One timer at a time is set for the next, at the time when the pace has room.
    steps = 0
    while node.later:
        ((node.now, work),) = node.later
        node.later.clear()
        work()
        node.turn()
        steps += 1
        assert len(node.admitted) <= 5 + steps
    assert node.admitted == peers
    assert node.now == pytest.approx(110.15, abs=0.01)
    assert node.tracker.open == 20


def test_a_slow_pace_is_left_to_the_tick() -> None:
    node = Node(2, pacing={"enabled": True, "rate": 1.0, "burst": 1})
    leases = [node.enter(number) for number in range(2)]
    peers = [node.hold(number) for number in range(2)]
    node.now += 10.0
    for lease in leases:
        node.leave(lease)
    assert node.admitted == peers[:1]
    assert not node.later
    node.pass_time(0.9)
    assert node.admitted == peers[:1]
    node.pass_time(0.1)
    assert node.admitted == peers


def test_a_native_client_is_told_its_position_and_let_in() -> None:
    node = Node()
    lease = node.enter()
    one, two = node.hold(1), node.hold(2)
    status = {"type": "queue_status", "waitTime": 0.0, "estimatedWaitRemaining": None}
    assert one.sent == [{**status, "position": 1, "totalInQueue": 1}]
    assert two.sent == [{**status, "position": 2, "totalInQueue": 2}]
    node.pass_time(2.0)
    assert len(two.sent) == 1, "nothing has changed"
    node.leave(lease)
    assert node.admitted == [one]
    assert one.lease.held
    assert not one.pending_auth
    node.pass_time(1.0)
    assert two.sent[1] == {
        "type": "queue_status",
        "position": 1,
        "totalInQueue": 1,
        "waitTime": 3.0,
        "estimatedWaitRemaining": 3.0,
    }
    assert node.tracker.open == 1
    assert node.stats.accepted == 1
    node.leave(one.lease)
    assert node.admitted == [one, two]
    assert node.stats.waited == {"entered": 2, "promoted": 2, "left": 0, "expired": 0}


def test_who_leaves_gives_its_place_up() -> None:
    node = Node()
    lease = node.enter()
    one, two = node.hold(1), node.hold(2)
    node.line.gone(cast(Any, one), node.now)
    assert len(node.line) == 1
    node.leave(lease)
    assert node.admitted == [two]


def test_waiting_ends() -> None:
    node = Node()
    node.enter()
    one = node.hold(1)
    node.pass_time(29.9)
    assert one.ended is None
    node.pass_time(0.2)
    assert one.ended == (1013, '{"error":"wait_timeout","retryAfter":5}', "wait_timeout")
    assert node.stats.rejected[WAIT_TIMEOUT.name] == 1
    assert len(node.line) == 0
    node.line.gone(cast(Any, one), node.now)
    assert node.stats.waited["left"] == 0


def test_a_full_waiting_room() -> None:
    node = Node(waiting_room={"size": 1})
    node.enter()
    node.hold(1)
    assert refused(node.line.hold(attempt(2), False, node.now)) == QUEUE_FULL.name
    assert refused(node.ask(3)) == QUEUE_FULL.name


def test_a_drain_ends_the_line_at_once() -> None:
    node = Node()
    lease = node.enter()
    one = node.hold(1)
    node.away(2)
    node.admission.draining = True
    node.leave(lease)
    assert node.admitted == []
    node.pass_time(0.1)
    assert one.ended == (1013, '{"error":"draining","retryAfter":5}', "draining")
    assert len(node.line) == 0
    assert node.tracker.open == 0


# Tickets.


def test_a_ticket_keeps_its_place_and_lets_in_once() -> None:
    node = Node()
    lease = node.enter()
    first = node.away(1)
    second = node.away(2)
    assert (first.position, second.position) == (1, 2)
    assert first.retry_after == 5
    node.pass_time(5.0)
    again = node.away(2, second.ticket)
    assert again.position == 2
    assert len(node.line) == 2
    node.leave(lease)
    # The slot is kept for the first, and for nobody else.
    assert node.line.kept == 1
    assert node.tracker.open == 1
    assert node.away(3).position == 2
    got = node.ask(1, first.ticket)
    assert isinstance(got, Lease)
    assert node.line.kept == 0
    # Used up: the same ticket is worth nothing now.
    assert node.away(1, first.ticket).position == 3


def test_a_native_client_does_not_overtake_a_ticket() -> None:
    node = Node()
    lease = node.enter()
    away = node.away(1)
    peer = node.hold(2)
    node.leave(lease)
    assert node.admitted == []
    got = node.ask(1, away.ticket)
    assert isinstance(got, Lease)
    node.leave(got)
    assert node.admitted == [peer]


def test_who_does_not_come_back_loses_the_place() -> None:
    node = Node()
    node.enter()
    away = node.away(1)
    node.pass_time(15.1)
    assert len(node.line) == 0
    assert node.away(1, away.ticket).position == 1


def test_a_slot_that_is_kept_is_given_on_when_nobody_comes_for_it() -> None:
    node = Node()
    lease = node.enter()
    node.away(1)
    peer = node.hold(2)
    node.leave(lease)
    node.pass_time(14.9)
    assert node.line.kept == 1
    node.pass_time(0.2)
    assert node.line.kept == 0
    assert node.admitted == [peer]
    assert node.tracker.open == 1


def test_who_came_back_for_too_long_is_told_so() -> None:
    node = Node()
    node.enter()
    away = node.away(1)
    for _ in range(5):
        node.pass_time(5.0)
        away = node.away(1, away.ticket)
    node.pass_time(5.0)
    assert refused(node.ask(1, away.ticket)) == WAIT_TIMEOUT.name
    assert len(node.line) == 0


@pytest.mark.parametrize(
    ("number", "identity"),
    [(2, ANONYMOUS), (1, Identity("ann"))],
)
def test_a_ticket_is_for_nobody_else(number: int, identity: Identity) -> None:
    node = Node()
    node.enter()
    away = node.away(1)
    assert node.line.read(away.ticket, attempt(1), node.wall) is not None
    assert node.line.read(away.ticket, attempt(number, identity), node.wall) is None
    answer = node.ask(number, away.ticket, identity)
    assert isinstance(answer, Away)
    assert answer.position == 2


def test_a_user_may_come_back_from_another_address() -> None:
    node = Node(limits={"per_user": 1, "per_ip": 1})
    lease = node.enter()
    ann = Identity("ann")
    away = node.ask(1, None, ann)
    assert isinstance(away, Away)
    node.leave(lease)
    got = node.ask(2, away.ticket, ann)
    assert isinstance(got, Lease)
    assert got.address == "192.0.2.2"
    assert node.tracker.ip_count("192.0.2.1") == 0


def test_an_address_at_its_limit_after_the_wait_is_refused_and_the_slot_goes_on() -> None:
    node = Node(2, limits={"per_ip": 1})
    first, _ = node.enter(8), node.enter(9)
    away = node.away(1)
    peer = node.hold(2)
    node.leave(first)
    assert node.line.kept == 1
    ticket = node.line.read(away.ticket, attempt(9), node.wall)
    assert ticket is None
    found = node.line.read(away.ticket, attempt(1), node.wall)
    assert found is not None
    # As a user behind the address of another would: back with a ticket, but no room there.
    assert refused(node.line.back(found, attempt(9), node.now, node.wall)) == IP_LIMIT.name
    node.turn()
    assert node.admitted == [peer]


def test_another_node_with_the_secret_knows_the_place() -> None:
    here, there = Node(), Node()
    here.enter()
    there.enter()
    ticket = here.away(1).ticket
    here.now = there.now = 103.0
    assert there.away(2).position == 1
    assert there.away(1, ticket).position == 1, "it arrived earlier"


def test_without_a_secret_tickets_are_good_at_one_process() -> None:
    here, there = Node(waiting_room={"secret": None}), Node(waiting_room={"secret": None})
    here.enter()
    away = here.away(1)
    assert here.line.read(away.ticket, attempt(1), here.wall) is not None
    assert there.line.read(away.ticket, attempt(1), there.wall) is None

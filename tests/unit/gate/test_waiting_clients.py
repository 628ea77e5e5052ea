"""Waiting clients: on their connection, or away with a ticket; told, admitted and turned away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gate.gate_world import START, Client, World, attempt, refused
from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Identity, Lease, Reject
from tidegate.core.codes import DRAINING, FLEET_LIMIT, IP_LIMIT, QUEUE_FULL, WAIT_TIMEOUT
from tidegate.core.settings import Settings
from tidegate.gate.decision import Away, Held

SECRET = "the-same-secret-on-all-the-nodes"


def world(connections: int = 1, **sections: Any) -> World:
    limits = {"connections": connections, **sections.pop("limits", {})}
    room = {"enabled": True, "secret": SECRET, **sections.pop("waiting_room", {})}
    return World(limits=limits, waiting_room=room, **sections)


def waits(node: World) -> dict[str, int]:
    """How positions were entered and have ended."""
    return {event: count for event, count in node.stats.waited.items() if count}


# Held on an open connection.


def test_promote_many_at_once_keeps_the_pace() -> None:
    node = world(20, pacing={"enabled": True, "rate": 100.0, "burst": 5})
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
    assert node.now == pytest.approx(START + 10.15, abs=0.01)
    assert node.tracker.open == 20


def test_promote_at_a_slow_pace_is_left_to_the_tick() -> None:
    node = world(2, pacing={"enabled": True, "rate": 1.0, "burst": 1})
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


def test_hold_tells_the_position_and_admits() -> None:
    node = world()
    lease = node.enter()
    one, two = node.hold(1), node.hold(2)
    assert one.positions == [(1, 1)]
    assert two.positions == [(2, 2)]
    assert [(status.waited, status.eta) for status in one.told + two.told] == [(0.0, None)] * 2
    node.pass_time(2.0)
    assert len(two.told) == 1, "nothing has changed"
    node.leave(lease)
    assert node.admitted == [one]
    assert one.lease is not None
    assert one.lease.held
    assert one.held is not None
    assert not one.held.unidentified
    node.pass_time(1.0)
    assert two.told[1] == (two.told[0].key, 1, 1, 3.0, 3.0)
    assert node.tracker.open == 1
    assert node.stats.accepted == 1
    node.leave(one.lease)
    assert node.admitted == [one, two]
    assert waits(node) == {"entered": 2, "promoted": 2}


def test_gone_gives_the_position_up() -> None:
    node = world()
    lease = node.enter()
    one, two = node.hold(1), node.hold(2)
    node.waiting.gone(one, node.now)
    assert len(node.waiting) == 1
    node.leave(lease)
    assert node.admitted == [two]


def test_tick_after_the_longest_wait_turns_away() -> None:
    node = world()
    node.enter()
    one = node.hold(1)
    node.pass_time(29.9)
    assert one.ended is None
    node.pass_time(0.2)
    assert one.ended == (WAIT_TIMEOUT, 5, None)
    assert node.stats.rejected[WAIT_TIMEOUT.name] == 1
    assert len(node.waiting) == 0
    node.waiting.gone(one, node.now)
    assert node.stats.waited["left"] == 0


@pytest.mark.parametrize("how", ["too long", "drained"])
def test_ends_of_many_positions_are_spread_over_turns(how: str) -> None:
    node = world(waiting_room={"size": 1000, "max_wait": 10.0})
    node.enter()
    peers = [node.hold(number) for number in range(300)]
    node.now += 100.0
    node.admission.draining = how == "drained"
    node.waiting.tick(node.now)
    found = [sum(peer.ended is not None for peer in peers)]
    while node.soon:
        node.soon.pop(0)()
        found.append(sum(peer.ended is not None for peer in peers))
    assert found[-1] == 300
    assert max(new - old for old, new in zip([0, *found], found, strict=False)) <= 100
    assert len(node.waiting) == 0


def test_hold_in_a_full_waiting_room_is_refused() -> None:
    node = world(waiting_room={"size": 1})
    node.enter()
    node.hold(1)
    assert refused(node.waiting.hold(attempt(2), False, node.now)) == QUEUE_FULL.name
    assert refused(node.ask(3)) == QUEUE_FULL.name


def test_tick_while_draining_turns_everybody_away() -> None:
    node = world()
    lease = node.enter()
    one = node.hold(1)
    node.away(2)
    node.admission.draining = True
    node.leave(lease)
    assert node.admitted == []
    node.pass_time(0.1)
    assert one.ended == (DRAINING, 5, None)
    assert len(node.waiting) == 0
    assert node.tracker.open == 0


def test_admit_of_a_closed_client_gives_the_lease_to_the_next() -> None:
    node = world()
    lease = node.enter()
    one, two = node.hold(1), node.hold(2)
    one.closed = True  # and the socket's end is not seen yet
    node.leave(lease)
    assert node.admitted == [two]
    assert node.tracker.open == 1
    node.waiting.gone(one, node.now)
    assert waits(node) == {"entered": 2, "promoted": 1, "left": 1}


def test_a_turn_that_comes_before_the_connection_is_open_waits_for_it() -> None:
    node = world()
    lease = node.enter()
    held = node.waiting.hold(attempt(1), True, node.now)
    assert isinstance(held, Held)
    node.turn()
    node.now += 0.5
    behind = node.hold(2)
    node.leave(lease)
    assert node.admitted == []
    assert node.tracker.open == 0
    client = node.seat(held)
    node.pass_time(0.1)
    assert node.admitted == [client], "it kept its position"
    assert client.held is held
    assert held.unidentified
    assert behind.positions == [(2, 2)]
    assert waits(node) == {"entered": 2, "promoted": 1}


def test_a_wait_that_ends_before_the_connection_is_open_ends_it_then() -> None:
    node = world(waiting_room={"max_wait": 1.0})
    node.enter()
    held = node.waiting.hold(attempt(1), False, node.now)
    assert isinstance(held, Held)
    node.pass_time(1.1)
    assert node.counted() == {"wait_timeout": 1}
    client = Client()
    node.waiting.seated(client, held)
    node.waiting.greet(client, node.now)
    assert (client.ended, client.told) == (None, []), "not within the call"
    node.turn()
    assert client.ended == (WAIT_TIMEOUT, 5, None)
    assert node.counted() == {"wait_timeout": 1}


def test_turning_away_that_ends_another_client_is_no_error() -> None:
    node = world()
    node.enter()
    one, two = node.hold(1), node.hold(2)
    turned: list[Client] = []

    def turn_away(client: Client, reject: Reject, /) -> None:
        turned.append(client)
        for other in (one, two):
            if other is not client:
                node.waiting.gone(other, node.now)

    node.turn_away = turn_away  # type: ignore[method-assign]
    node.admission.draining = True
    node.pass_time(0.1)
    assert turned == [one]
    assert len(node.waiting) == 0
    assert node.counted() == {"draining": 1}


def test_apply_changes_the_size_and_the_longest_wait() -> None:
    node = world(waiting_room={"size": 1, "max_wait": 10.0})
    node.enter()
    one = node.hold(1)
    assert refused(node.waiting.hold(attempt(2), False, node.now)) == QUEUE_FULL.name
    room = {"enabled": True, "size": 2, "max_wait": 20.0}
    node.waiting.apply(Settings.from_mapping({"waiting_room": room}))
    two = node.hold(2)
    assert two.positions == [(2, 2)]
    node.pass_time(20.1)
    assert two.reason == WAIT_TIMEOUT.name
    assert one.reason == WAIT_TIMEOUT.name


# Tickets.


def test_a_ticket_keeps_its_position_and_admits_once() -> None:
    node = world()
    lease = node.enter()
    first = node.away(1)
    second = node.away(2)
    assert (first.position, second.position) == (1, 2)
    assert first.retry_after == 5
    node.pass_time(5.0)
    again = node.away(2, second.ticket)
    assert again.position == 2
    assert len(node.waiting) == 2
    node.leave(lease)
    # The lease is kept for the first, and for nobody else.
    assert node.waiting.kept == 1
    assert node.tracker.open == 1
    assert node.away(3).position == 2
    got = node.ask(1, first.ticket)
    assert isinstance(got, Lease)
    assert node.waiting.kept == 0
    # Used up: the same ticket is worth nothing now.
    assert node.away(1, first.ticket).position == 3


def test_a_held_client_does_not_overtake_a_ticket() -> None:
    node = world()
    lease = node.enter()
    away = node.away(1)
    peer = node.hold(2)
    node.leave(lease)
    assert node.admitted == []
    got = node.ask(1, away.ticket)
    assert isinstance(got, Lease)
    node.leave(got)
    assert node.admitted == [peer]


def test_a_ticket_that_does_not_come_back_loses_its_position() -> None:
    node = world()
    node.enter()
    away = node.away(1)
    node.pass_time(15.1)
    assert len(node.waiting) == 0
    assert node.away(1, away.ticket).position == 1


def test_a_kept_lease_that_nobody_comes_for_goes_on() -> None:
    node = world()
    lease = node.enter()
    node.away(1)
    peer = node.hold(2)
    node.leave(lease)
    node.pass_time(14.9)
    assert node.waiting.kept == 1
    node.pass_time(0.2)
    assert node.waiting.kept == 0
    assert node.admitted == [peer]
    assert node.tracker.open == 1


def test_back_after_the_longest_wait_is_refused() -> None:
    node = world()
    node.enter()
    away = node.away(1)
    for _ in range(5):
        node.pass_time(5.0)
        away = node.away(1, away.ticket)
    node.pass_time(5.0)
    assert refused(node.ask(1, away.ticket)) == WAIT_TIMEOUT.name
    assert len(node.waiting) == 0


@pytest.mark.parametrize(
    ("number", "identity"),
    [(2, ANONYMOUS), (1, Identity("ann"))],
)
def test_a_ticket_is_for_nobody_else(number: int, identity: Identity) -> None:
    node = world()
    node.enter()
    away = node.away(1)
    assert node.waiting.read(away.ticket, attempt(1), node.wall) is not None
    assert node.waiting.read(away.ticket, attempt(number, identity), node.wall) is None
    answer = node.ask(number, away.ticket, identity)
    assert isinstance(answer, Away)
    assert answer.position == 2


def test_a_user_may_come_back_from_another_address() -> None:
    node = world(limits={"per_user": 1, "per_ip": 1})
    lease = node.enter()
    ann = Identity("ann")
    away = node.ask(1, None, ann)
    assert isinstance(away, Away)
    node.leave(lease)
    got = node.ask(2, away.ticket, ann)
    assert isinstance(got, Lease)
    assert got.address == "192.0.2.2"
    assert node.tracker.ip_count("192.0.2.1") == 0


def test_back_at_the_limit_of_the_address_is_refused_and_the_lease_goes_on() -> None:
    node = world(2, limits={"per_ip": 1})
    first, _ = node.enter(8), node.enter(9)
    away = node.away(1)
    peer = node.hold(2)
    node.leave(first)
    assert node.waiting.kept == 1
    ticket = node.waiting.read(away.ticket, attempt(9), node.wall)
    assert ticket is None
    found = node.waiting.read(away.ticket, attempt(1), node.wall)
    assert found is not None
    # As a user behind the address of another would: back with a ticket, but no room there.
    assert refused(node.waiting.back(found, attempt(9), node.now, node.wall)) == IP_LIMIT.name
    node.turn()
    assert node.admitted == [peer]


def test_a_node_with_the_same_secret_knows_the_position() -> None:
    here, there = world(), world()
    here.enter()
    there.enter()
    ticket = here.away(1).ticket
    here.now = there.now = START + 3.0
    assert there.away(2).position == 1
    assert there.away(1, ticket).position == 1, "it arrived earlier"


def test_without_a_secret_tickets_are_good_at_one_process() -> None:
    here, there = world(waiting_room={"secret": None}), world(waiting_room={"secret": None})
    here.enter()
    away = here.away(1)
    assert here.waiting.read(away.ticket, attempt(1), here.wall) is not None
    assert there.waiting.read(away.ticket, attempt(1), there.wall) is None


def test_a_ticket_of_an_anonymous_client_is_good_in_all_of_its_ipv6_network() -> None:
    """Its system changes its address by itself (RFC 8981)."""
    node = world()
    node.enter()

    def client(address: str) -> Attempt:
        return Attempt(address, "/ws")

    away = node.waiting.send_away(client("2001:db8::1"), None, node.now, node.wall)
    assert isinstance(away, Away)
    assert node.waiting.read(away.ticket, client("2001:db8::2"), node.wall) is not None
    assert node.waiting.read(away.ticket, client("2001:db8:0:1::1"), node.wall) is None
    assert node.waiting.read(away.ticket, client("192.0.2.1"), node.wall) is None


# Every position that is entered ends once.


def test_a_lease_that_is_kept_counts_when_it_is_taken_or_lapses() -> None:
    node = world(2)
    leases = [node.enter(number) for number in (8, 9)]
    first, second = node.away(1), node.away(2)
    for lease in leases:
        node.leave(lease)
    node.pass_time(0.1)
    assert (node.waiting.kept, waits(node)) == (2, {"entered": 2})
    assert isinstance(node.ask(1, first.ticket), Lease)
    assert waits(node) == {"entered": 2, "promoted": 1}
    node.pass_time(20.0)
    assert (node.waiting.kept, waits(node)) == (0, {"entered": 2, "promoted": 1, "expired": 1})
    assert second.position == 2


def test_a_drain_ends_every_position() -> None:
    node = world(1)
    lease = node.enter()
    opening = node.waiting.hold(attempt(4), False, node.now)
    assert isinstance(opening, Held)
    node.hold(1)
    node.away(2)
    assert waits(node) == {"entered": 3}
    node.admission.draining = True
    node.pass_time(0.1)
    assert waits(node) == {"entered": 3, "drained": 3}
    late = node.seat(opening)
    assert late.reason == DRAINING.name
    node.waiting.gone(late, node.now)
    node.leave(lease)
    node.pass_time(60.0)
    assert waits(node) == {"entered": 3, "drained": 3}


def test_a_drain_gives_back_leases_that_are_kept() -> None:
    node = world(1)
    lease = node.enter()
    node.away(1)
    node.leave(lease)
    node.pass_time(0.1)
    assert (node.waiting.kept, node.tracker.open) == (1, 1)
    node.admission.draining = True
    node.pass_time(0.1)
    assert (node.waiting.kept, node.tracker.open) == (0, 0)
    assert waits(node) == {"entered": 1, "drained": 1}


@pytest.mark.parametrize("away", [True, False])
def test_a_position_whose_client_is_at_a_limit_of_its_own_ends_refused(away: bool) -> None:
    node = world(2, limits={"per_ip": 1})
    leases = [node.enter(number) for number in (8, 9)]
    client = None if away else node.hold(1)
    if away:
        node.away(1)
    node.fill(0, "192.0.2.1")
    node.tracker.release(leases[0])
    node.fill(1, "192.0.2.1")  # a connection that did not wait
    node.leave(leases[1])
    node.pass_time(0.1)
    assert waits(node) == {"entered": 1, "refused": 1}
    assert client is None or client.reason == IP_LIMIT.name


def test_one_that_is_promoted_too_early_keeps_its_position_in_a_room_made_smaller() -> None:
    node = world(1)
    lease = node.enter()
    helds = [node.waiting.hold(attempt(number), False, node.now) for number in (1, 2, 3)]
    node.waiting.apply(Settings.from_mapping({"waiting_room": {"enabled": True, "size": 1}}))
    node.leave(lease)
    assert isinstance(helds[0], Held)
    client = node.seat(helds[0])
    node.pass_time(0.1)
    assert client.lease is not None
    assert waits(node) == {"entered": 3, "promoted": 1}


# Beside the limits of a fleet.


class Asked:
    """A fleet that answers when a test says so."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def confirm(self, _: Lease, done: Any, /) -> None:
        self.open.append(done)

    def answer(self, *rejects: Reject | None) -> None:
        asked, self.open = self.open, []
        for done, reject in zip(asked, rejects, strict=True):
            done(reject)

    def released(self, names: tuple[str, ...], /) -> None:
        """Nothing is counted here."""


def test_nobody_is_offered_what_somebody_before_may_be_refused() -> None:
    fleet = Asked()
    node = world(4, fleet=fleet)
    leases = [node.enter(number) for number in range(4)]
    ann, bob, cy = [node.hold(number) for number in range(4, 7)]
    node.leave(leases[0])
    node.leave(leases[1])
    assert len(fleet.open) == 1  # that of ann; bob's waits for its answer
    full = Reject(FLEET_LIMIT, FLEET_LIMIT.retry_after)
    fleet.answer(full)
    node.pass_time(0.3)
    fleet.answer(None)  # one at a time since it was full: ann's
    assert node.admitted == [ann]
    node.turn()
    node.leave(leases[2])
    fleet.answer(None)
    assert node.admitted == [ann, bob]
    node.turn()
    fleet.answer(None)
    assert node.admitted == [ann, bob, cy]
    assert not node.waiting.kept


def test_what_is_free_at_once_is_offered_together() -> None:
    fleet = Asked()
    node = world(3, fleet=fleet)
    leases = [node.enter(number) for number in range(3)]
    waiting = [node.hold(number) for number in range(3, 7)]
    for lease in leases:
        node.tracker.release(lease)
    node.waiting.freed()
    node.turn()
    full = Reject(FLEET_LIMIT, FLEET_LIMIT.retry_after)
    fleet.answer(None, full, full)
    assert node.admitted == waiting[:1]
    for _ in range(3):
        node.pass_time(0.3)
        if fleet.open:
            fleet.answer(None)
        node.turn()
    assert node.admitted[:2] == waiting[:2]

"""Decisions that come late, because an application says late who an attempt belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gate.gate_world import WALL, World, name, opening, refused
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import BAD_REQUEST, RATE_LIMITED, SERVER_LIMIT, UNAUTHORIZED
from tidegate.errors import UsageError
from tidegate.gate.decision import Admit, Away, Held, Wait
from tidegate.gate.refusals import Refused

ANN = Identity("ann")
ROOM: dict[str, Any] = {"enabled": True}


def test_pending_that_is_identified_admits() -> None:
    world = World()
    pending, promise = world.pending(opening(1, in_band=True))
    told: list[str] = []
    pending.then(lambda: told.append("ready"))
    assert told == []
    assert (world.tracker.open, world.stats.accepted) == (0, 0)
    promise.keep(name("ann"))
    assert told == ["ready"]
    decision = world.go_on(pending)
    assert isinstance(decision, Admit)
    assert (decision.attempt.identity, decision.attempt.in_band) == (ANN, True)
    assert decision.lease.user == "ann"
    assert world.counted() == {}
    assert (promise.taken, promise.cancelled) == (1, 0)


@pytest.mark.parametrize(("anonymous", "in_band"), [(True, False), (False, True)])
def test_pending_that_turns_out_anonymous_may_have_to_identify(
    anonymous: bool, in_band: bool
) -> None:
    world = World(auth={"anonymous": anonymous})
    pending, promise = world.pending(opening(1, in_band=in_band))
    promise.keep(Identity())  # and not the object ANONYMOUS
    decision = world.go_on(pending)
    assert isinstance(decision, Admit)
    assert decision.unidentified == (not anonymous)


@pytest.mark.parametrize("reason", [UNAUTHORIZED, BAD_REQUEST])
def test_pending_that_is_refused_rejects_and_is_kept(reason: Any) -> None:
    world = World()
    pending, promise = world.pending(opening(1))
    world.now += 2.0
    promise.keep(reason)
    assert world.go_on(pending) == Reject(reason, reason.retry_after)
    assert world.counted() == {reason.name: 1}
    assert list(world.refusals) == [
        Refused(WALL + 2.0, "192.0.2.1", None, None, reason, reason.retry_after, None, "/ws")
    ]


def test_pending_whose_application_raises_raises_and_takes_nothing() -> None:
    world = World()
    pending, promise = world.pending(opening(1))
    promise.keep(RuntimeError("swordfish"))
    with pytest.raises(RuntimeError, match="swordfish"):
        world.go_on(pending)
    assert (world.tracker.open, world.stats.accepted, world.counted()) == (0, 0, {})
    pending.cancel()
    assert promise.cancelled == 0, "it has ended already"


def test_pending_cancelled_reaches_the_application_once() -> None:
    world = World(pacing={"enabled": True, "rate": 0.1, "burst": 1})
    pending, promise = world.pending(opening(1))
    told: list[str] = []
    pending.then(lambda: told.append("ready"))
    pending.cancel()
    pending.cancel()
    assert promise.cancelled == 1
    promise.keep(ANN)
    assert told == [], "nobody waits any longer"
    assert (world.tracker.open, world.stats.accepted, world.counted()) == (0, 0, {})
    # The pace has lost nothing: somebody else is admitted at once.
    assert isinstance(world.decide(opening(2)), Admit)


def test_pending_ends_once() -> None:
    world = World()
    pending, promise = world.pending(opening(1))
    promise.keep(ANN)
    assert isinstance(world.go_on(pending), Admit)
    with pytest.raises(UsageError):
        pending.decide(world.now, world.wall)
    with pytest.raises(UsageError):
        pending.then(lambda: None)
    pending.cancel()
    assert (promise.taken, promise.cancelled) == (1, 0)
    assert world.tracker.open == 1


def test_pending_whose_promise_is_kept_twice_tells_once() -> None:
    world = World()
    pending, promise = world.pending(opening(1))
    told: list[str] = []
    pending.then(lambda: told.append("ready"))
    promise.keep(ANN)
    promise.keep(ANN)
    assert told == ["ready"]


def test_pending_on_a_server_that_became_full_is_rejected() -> None:
    world = World(limits={"connections": 2})
    pending, promise = world.pending(opening(1))
    world.enter(8)
    world.enter(9)
    promise.keep(ANN)
    assert world.go_on(pending) == Reject(SERVER_LIMIT, 5, 2)
    assert world.counted() == {"server_limit": 1}
    assert [kept.user for kept in world.refusals] == ["ann"]


@pytest.mark.parametrize(
    ("limits", "identity", "reason"),
    [
        ({"per_ip": 1}, ANONYMOUS, "ip_limit"),
        ({"per_user": 1}, ANN, "user_limit"),
    ],
)
def test_pending_at_a_limit_that_was_reached_since_is_rejected(
    limits: dict[str, Any], identity: Identity, reason: str
) -> None:
    world = World(limits=limits)
    first, promised = world.pending(opening(1))
    second, promise = world.pending(opening(1))
    promised.keep(identity)
    promise.keep(identity)
    assert isinstance(world.go_on(second), Admit)
    assert refused(world.go_on(first)) == reason


@pytest.mark.parametrize("in_band", [False, True])
def test_pending_on_a_full_server_with_a_waiting_room_waits(in_band: bool) -> None:
    world = World(limits={"connections": 1}, waiting_room=ROOM)
    pending, promise = world.pending(opening(1, in_band=in_band))
    lease = world.enter()
    promise.keep(ANN)
    decision = world.go_on(pending)
    assert isinstance(decision, Wait)
    assert isinstance(decision.position, Held if in_band else Away)
    world.turn()
    if isinstance(decision.position, Held):
        client = world.seat(decision.position)
        world.leave(lease)
        assert world.admitted == [client]
    else:
        world.leave(lease)
        assert world.waiting.kept == 1


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("with_ticket", [False, True])
def test_pending_on_a_server_that_began_to_drain_is_rejected(kept: bool, with_ticket: bool) -> None:
    """Also one whose ticket is good, and for which a lease is kept."""
    world = World(limits={"connections": 1}, waiting_room=ROOM)
    lease = world.enter()
    away = world.decide(opening(1))
    assert isinstance(away, Wait)
    assert isinstance(away.position, Away)
    if kept:
        world.leave(lease)
        assert world.waiting.kept == 1
    ticket = away.position.ticket if with_ticket else None
    pending, promise = world.pending(opening(1, ticket=ticket))
    world.admission.draining = True
    promise.keep(ANONYMOUS)
    assert refused(world.go_on(pending)) == "draining"
    assert world.counted() == {"waiting": 1, "draining": 1}
    assert (world.tracker.open, world.waiting.kept) == (1, int(kept))


def test_pending_with_a_ticket_reads_it_when_it_goes_on() -> None:
    world = World(limits={"connections": 1}, waiting_room=ROOM)
    lease = world.enter()
    away = world.decide(opening(1))
    assert isinstance(away, Wait)
    assert isinstance(away.position, Away)
    world.leave(lease)
    pending, promise = world.pending(opening(1, ticket=away.position.ticket))
    assert world.waiting.kept == 1
    promise.keep(ANONYMOUS)
    assert isinstance(world.go_on(pending), Admit)
    assert (world.waiting.kept, world.tracker.open) == (0, 1)


def test_pending_with_a_ticket_that_lapsed_takes_every_step() -> None:
    world = World(limits={"connections": 2, "per_ip": 1}, waiting_room=ROOM)
    leases = [world.enter(8), world.enter(9)]
    away = world.decide(opening(1))
    assert isinstance(away, Wait)
    assert isinstance(away.position, Away)
    pending, promise = world.pending(opening(1, ticket=away.position.ticket))
    world.pass_time(16.0)
    world.leave(leases.pop())
    world.fill(1, "192.0.2.1")
    promise.keep(ANONYMOUS)
    assert refused(world.go_on(pending)) == "ip_limit"


@pytest.mark.parametrize("end", ["cancel", "admit"])
def test_pending_that_came_at_its_slot_gives_it_back_when_it_is_cancelled(end: str) -> None:
    world = World(pacing={"enabled": True, "rate": 1.0, "burst": 1}, auth={"anonymous": True})
    assert isinstance(world.decide(opening(1)), Admit)
    for number in (2, 3):
        assert refused(world.decide(opening(number))) == RATE_LIMITED.name
    world.now += 1.0
    pending, promise = world.pending(opening(2))
    if end == "cancel":
        pending.cancel()
        pending.cancel()
        assert isinstance(world.decide(opening(4)), Admit)
    else:
        promise.keep(name("ann"))
        assert isinstance(world.go_on(pending), Admit)
    assert refused(world.decide(opening(5))) == RATE_LIMITED.name


def test_pending_that_took_no_slot_gives_none_back() -> None:
    world = World(pacing={"enabled": True, "rate": 1.0, "burst": 2}, auth={"anonymous": True})
    for number in (1, 2):
        pending, _ = world.pending(opening(number))
        pending.cancel()
    decisions = [world.decide(opening(number)) for number in range(3, 7)]
    assert [isinstance(decision, Admit) for decision in decisions] == [True, True, False, False]
    world.now += 0.5
    assert refused(world.decide(opening(7))) == RATE_LIMITED.name

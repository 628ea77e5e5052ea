"""The gate's decisions as values: who is admitted, who waits, and why the others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.gate.gate_world import HOST, WALL, World, attempt, name, opening, refused
from tidegate.core.admission.attempt import Identity, Reject
from tidegate.core.admission.shedding import Zone
from tidegate.core.codes import ORIGIN, REASONS, UNAUTHORIZED, Refusal
from tidegate.gate.decision import Admit, Away, Held, OpeningRequest, Wait
from tidegate.gate.refusals import Refusals, Refused

ANN = Identity("ann")
ROOM: dict[str, Any] = {"enabled": True}


def admitted(world: World, request: OpeningRequest) -> Admit:
    decision = world.decide(request)
    assert isinstance(decision, Admit), decision
    return decision


def waits(world: World, request: OpeningRequest) -> Held | Away:
    decision = world.decide(request)
    assert isinstance(decision, Wait), decision
    return decision.position


def test_decide_with_capacity_admits() -> None:
    world = World(tiers={"paid": {}})
    got = admitted(world, opening(1, token="ann/paid", in_band=True))
    assert (got.attempt.address, got.attempt.path) == ("192.0.2.1", "/ws")
    assert (got.attempt.identity, got.attempt.in_band) == (name("ann/paid"), True)
    assert (got.lease.address, got.lease.user, got.lease.tier) == ("192.0.2.1", "ann", "paid")
    assert not got.unidentified
    assert world.counted() == {}
    assert list(world.refusals) == []


# Refusals.

LIMITED: dict[str, Any] = {
    "limits": {"connections": 5, "per_ip": 3, "per_user": 2},
    "tiers": {"free": {"connections": 1}},
}


def drain(world: World) -> None:
    world.admission.draining = True


@pytest.mark.parametrize(
    ("reason", "prepare", "token", "limit"),
    [
        (
            "server_limit",
            lambda world: [world.fill(1, f"192.0.2.{n}") for n in range(10, 15)],
            "ann",
            5,
        ),
        ("ip_limit", lambda world: world.fill(3, "192.0.2.1"), "ann", 3),
        ("user_limit", lambda world: world.fill(2, "192.0.2.9", ANN), "ann", 2),
        (
            "tier_limit",
            lambda world: world.fill(1, "192.0.2.9", Identity("bob", "free")),
            "ann/free",
            1,
        ),
        ("draining", drain, "ann", None),
        ("unauthorized", lambda world: None, "bad", None),
    ],
)
@pytest.mark.parametrize("in_band", [False, True])
def test_decide_at_a_limit_rejects(
    reason: str, prepare: Callable[[World], Any], token: str, limit: int | None, in_band: bool
) -> None:
    world = World(**LIMITED)
    prepare(world)
    row = REASONS[reason]
    assert isinstance(row, Refusal)
    decision = world.decide(opening(1, token=token, in_band=in_band))
    assert decision == Reject(row, row.retry_after, limit)
    assert world.counted() == {reason: 1}
    known = name(token) if reason.endswith("_limit") and reason != "ip_limit" else Identity()
    kept = Refused(WALL, "192.0.2.1", known.user, known.tier, row, row.retry_after, limit, "/ws")
    assert list(world.refusals) == [kept]


STEPS = ["origin", "draining", "breaker", "ip_limit", "rate_limited", "unauthorized"]
STEPS += ["shedding", "server_limit", "user_limit"]


@pytest.mark.parametrize("reason", STEPS)
def test_decide_with_everything_wrong_answers_with_the_first_step(reason: str) -> None:
    """Everything is wrong from this step on; cheap steps come first, and limits last."""
    wrong = STEPS[STEPS.index(reason) :]
    world = World(
        limits={
            "connections": 4 if "server_limit" in wrong else 9,
            "per_ip": 4 if "ip_limit" in wrong else 9,
            "per_user": 4 if "user_limit" in wrong else 9,
        },
        breaker={"enabled": True, "rejections": 1},
        pacing={"enabled": True, "rate": 0.1, "burst": 4},
        shedding={"enabled": True},
    )
    if "rate_limited" in wrong:
        for _ in range(4):
            world.enter(1, ANN)  # at the pace
    else:
        world.fill(4, "192.0.2.1", ANN)
    if "shedding" in wrong:
        world.shedder.zone = Zone.EMERGENCY
    if "breaker" in wrong:
        world.admission.breaker.rejected(world.now)
    world.admission.draining = "draining" in wrong
    request = opening(1, token="bad" if "unauthorized" in wrong else "ann")
    if "origin" in wrong:
        request.origin = "https://evil.example"
    assert refused(world.decide(request)) == reason
    assert world.counted() == {reason: 1}
    asked = STEPS.index(reason) >= STEPS.index("unauthorized")
    assert len(world.names.asked) == asked, "cheap steps come before identification"


@pytest.mark.parametrize(
    ("origins", "secure", "origin", "allowed"),
    [
        ([], False, None, True),
        ([], False, f"http://{HOST}", True),
        ([], False, f"https://{HOST}", True),
        ([], True, f"http://{HOST}", False),
        ([], True, f"https://{HOST}", True),
        ([], False, "http://other.example", False),
        ([], False, "null", False),
        (["https://a.example"], True, None, True),
        (["https://a.example"], False, "https://a.example", True),
        (["https://a.example"], False, "https://a.example.evil", False),
        (["https://a.example"], False, f"http://{HOST}", False),
        (["*"], False, "https://any.example", True),
    ],
)
def test_decide_by_origin(
    origins: list[str], secure: bool, origin: str | None, allowed: bool
) -> None:
    world = World(server={"origins": origins})
    decision = world.decide(opening(1, origin=origin, secure=secure))
    assert decision == Reject(ORIGIN, None) if not allowed else isinstance(decision, Admit)
    assert world.counted() == ({} if allowed else {"origin": 1})


def test_decide_too_fast_gives_each_its_own_time() -> None:
    world = World(pacing={"enabled": True, "rate": 0.8, "burst": 1})
    admitted(world, opening(1))
    delays = [world.decide(opening(number))[1] for number in (2, 3)]  # type: ignore[index]
    assert delays == [1.3, 2.5]
    assert world.gate.wait_to_decide(world.now) == 0.0
    world.now += 1.3
    admitted(world, opening(2))
    assert world.counted() == {"rate_limited": 2}


@pytest.mark.parametrize("first_message", [False, True])
@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("in_band", [False, True])
@pytest.mark.parametrize("user", [None, "ann"])
def test_decide_says_who_has_to_identify_itself(
    first_message: bool, anonymous: bool, in_band: bool, user: str | None
) -> None:
    """Whatever an identifier says, nobody without a user is admitted where that is not allowed."""
    world = World(auth={"anonymous": anonymous, "first_message": first_message})
    decision = world.decide(opening(1, token=user, in_band=in_band))
    if user is not None or anonymous:
        assert isinstance(decision, Admit)
        assert not decision.unidentified
    elif in_band and first_message:
        assert isinstance(decision, Admit)
        assert decision.unidentified
    else:
        assert decision == Reject(UNAUTHORIZED, None)


# Waiting.


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("in_band", [False, True])
def test_decide_on_a_full_server_with_a_waiting_room_waits(holds: bool, in_band: bool) -> None:
    world = World(holds_waiting=holds, limits={"connections": 1}, waiting_room=ROOM)
    lease = world.enter()
    position = waits(world, opening(1, token="ann", in_band=in_band))
    assert position.position == 1
    if holds and in_band:
        assert isinstance(position, Held)
        assert position.attempt.identity == ANN
        assert world.counted() == {}
        client = world.seat(position)
        world.leave(lease)
        assert world.admitted == [client]
        assert client.held is position
    else:
        assert isinstance(position, Away)
        assert position.retry_after == 5
        assert world.counted() == {"waiting": 1}
        world.leave(lease)
        assert world.waiting.kept == 1
        got = admitted(world, opening(1, token="ann", ticket=position.ticket))
        assert got.lease.user == "ann"
    assert list(world.refusals) == [], "who waits is not refused"


def test_decide_holds_an_unidentified_client_as_one() -> None:
    world = World(
        limits={"connections": 1}, waiting_room=ROOM, auth={"anonymous": False, "secret": "x" * 32}
    )
    world.fill(1, "192.0.2.9")
    held = waits(world, opening(1, in_band=True))
    assert isinstance(held, Held)
    assert held.unidentified


@pytest.mark.parametrize("in_band", [False, True])
def test_decide_with_a_full_waiting_room_rejects(in_band: bool) -> None:
    world = World(limits={"connections": 1}, waiting_room={"enabled": True, "size": 1})
    world.enter()
    waits(world, opening(1))
    assert refused(world.decide(opening(2, in_band=in_band))) == "queue_full"
    assert world.counted() == {"waiting": 1, "queue_full": 1}
    assert [kept.reason.name for kept in world.refusals] == ["queue_full"]


def test_decide_with_a_good_ticket_skips_the_pace() -> None:
    pacing = {"enabled": True, "rate": 0.1, "burst": 1}
    world = World(limits={"connections": 1}, waiting_room=ROOM, pacing=pacing)
    (lease,) = world.fill(1, "192.0.2.9")
    away = waits(world, opening(1))
    assert isinstance(away, Away)
    assert waits(world, opening(1, ticket=away.ticket)).position == 1
    world.leave(lease)
    assert world.waiting.kept == 1, "which counts for the pace"
    assert refused(world.decide(opening(2))) == "rate_limited"
    admitted(world, opening(1, ticket=away.ticket))


@pytest.mark.parametrize("ticket", ["", "nonsense", "1." + "A" * 64])
def test_decide_with_a_worthless_ticket_takes_every_step(ticket: str) -> None:
    world = World(
        limits={"per_ip": 2}, waiting_room=ROOM, pacing={"enabled": True, "rate": 0.1, "burst": 1}
    )
    admitted(world, opening(1, ticket=ticket))
    assert refused(world.decide(opening(1, ticket=ticket))) == "rate_limited"
    world.fill(1, "192.0.2.1")
    assert refused(world.decide(opening(1, ticket=ticket))) == "ip_limit"


def test_decide_with_a_ticket_while_draining_rejects() -> None:
    world = World(limits={"connections": 1}, waiting_room=ROOM)
    lease = world.enter()
    away = waits(world, opening(1))
    assert isinstance(away, Away)
    world.leave(lease)
    drain(world)
    assert refused(world.decide(opening(1, ticket=away.ticket))) == "draining"
    assert world.waiting.kept == 1


def test_decide_with_an_identifier_that_raises_takes_nothing() -> None:
    class Broken:
        def identify(self, request: OpeningRequest, /) -> Identity:
            raise RuntimeError("swordfish")

    world = World(identifier=Broken())
    with pytest.raises(RuntimeError, match="swordfish"):
        world.decide(opening(1))
    assert world.tracker.open == 0
    assert world.counted() == {}


# The refusals that are kept.


def test_refusals_keeps_the_last_and_counts_them_all() -> None:
    world = World()
    refusals = Refusals(world.stats)
    for number in range(300):
        refusals.add(attempt(1, ANN), Reject(UNAUTHORIZED, None), WALL + number)
    refusals.count(ORIGIN)
    assert world.counted() == {"unauthorized": 300, "origin": 1}
    assert len(refusals) == 200
    assert [kept.at for kept in refusals] == [WALL + n for n in range(299, 99, -1)]

"""The gate without an engine: from a scope to a decision, and the leases that it gives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.aio import in_loop
from tests.support.jwks import JwksServer
from tidegate.asgi.local import LocalGate
from tidegate.core.admission.attempt import Identity, Reject
from tidegate.core.codes import UNAUTHORIZED
from tidegate.errors import ConfigError
from tidegate.gate.decision import Admit, Decision, Wait

SECRET = "a secret of at least thirty-two bytes"


def scope(*headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/chat/a b",
        "raw_path": b"/chat/a%20b",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("192.0.2.7", 5000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        **more,
    }


class World:
    """A gate at a time that only tests move."""

    def __init__(self, **sections: dict[str, object]) -> None:
        self.now = 1000.0
        self.gate = LocalGate(
            sections, clock=lambda: self.now, wall=lambda: self.now, chance=lambda: 0.5
        )

    async def attempt(self, identify: Any = None, /, **more: Any) -> Decision:
        return await self.gate.decide(self.gate.request(scope(**more)), identify)


def reason(decision: Decision) -> str:
    assert isinstance(decision, Reject)
    return decision.reason.name


@in_loop
async def test_limits_admit_exactly_as_many() -> None:
    world = World(limits={"per_ip": 3})
    decisions = await asyncio.gather(*(world.attempt() for _ in range(10)))
    admitted = [one for one in decisions if isinstance(one, Admit)]
    assert len(admitted) == world.gate.tracker.open == 3
    assert {reason(one) for one in decisions if not isinstance(one, Admit)} == {"ip_limit"}
    world.gate.release(admitted[0].lease)
    world.gate.release(admitted[0].lease)
    assert world.gate.tracker.open == 2
    assert world.gate.stats.disconnected["normal"] == 1
    assert isinstance(await world.attempt(), Admit)


@pytest.mark.parametrize(
    ("more", "settings", "address"),
    [
        ({}, {}, "192.0.2.7"),
        ({"client": ("::ffff:192.0.2.8", 1)}, {}, "192.0.2.8"),
        ({"client": ("2001:DB8::1", 1)}, {}, "2001:db8::1"),
        ({"client": None, "server": ("/run/app.sock", None)}, {}, "198.51.100.1"),
        ({"client": None, "server": ("127.0.0.1", 8000)}, {}, ""),
        ({}, {"trusted": ["192.0.2.0/24"]}, "198.51.100.1"),
        ({"client": ("203.0.113.1", 1)}, {"trusted": ["192.0.2.0/24"]}, "203.0.113.1"),
    ],
    ids=["plain", "mapped", "spelling", "unix", "no client", "proxy", "not a proxy"],
)
def test_request_has_the_address_of_the_client(more: Any, settings: Any, address: str) -> None:
    world = World(proxies=settings)
    request = world.gate.request(scope(("X-Forwarded-For", "198.51.100.1"), **more))
    assert (request.address, request.path) == (address, "/chat/a%20b")


def test_request_carries_token_ticket_and_origin() -> None:
    request = World().gate.request(
        scope(
            ("Origin", "https://a.example"),
            ("HOST", "a.example"),
            ("x-queue-ticket", "t"),
            subprotocols=["chat", "tidegate.token.abc"],
            scheme="wss",
        )
    )
    assert (request.token, request.ticket) == ("abc", "t")
    assert (request.origin, request.host, request.secure) == (
        "https://a.example",
        "a.example",
        True,
    )


@in_loop
async def test_page_of_another_origin_is_refused() -> None:
    world = World(server={"origins": ["https://a.example"]})
    for origin, admitted in [("https://a.example", True), ("https://b.example", False)]:
        request = world.gate.request(scope(("Origin", origin), ("Host", "x.example")))
        assert isinstance(await world.gate.decide(request), Admit) == admitted


@in_loop
async def test_identity_that_is_known_counts() -> None:
    world = World(limits={"per_user": 1})
    assert isinstance(await world.attempt(Identity("ann")), Admit)
    assert reason(await world.attempt(Identity("ann"))) == "user_limit"
    assert isinstance(await world.attempt(Identity("bob")), Admit)


@in_loop
async def test_function_that_identifies_is_asked_after_the_cheap_checks() -> None:
    world = World(limits={"per_ip": 1})
    asked = 0

    async def who() -> Identity:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return Identity("ann")

    admit = await world.attempt(who)
    assert isinstance(admit, Admit)
    assert admit.lease.user == "ann"
    assert reason(await world.attempt(who)) == "ip_limit"
    assert asked == 1


@in_loop
async def test_function_that_refuses_or_raises_takes_nothing() -> None:
    world = World()

    async def nobody() -> Any:
        return UNAUTHORIZED

    async def broken() -> Any:
        raise LookupError("of the database")

    assert reason(await world.attempt(nobody)) == "unauthorized"
    with pytest.raises(LookupError):
        await world.attempt(broken)
    assert world.gate.tracker.open == 0


@in_loop
async def test_function_that_hangs_is_cancelled_at_the_deadline() -> None:
    world = World(server={"handshake_timeout": 0.1, "max_pending": 1})
    cancelled = asyncio.Event()

    async def hang() -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    first = asyncio.ensure_future(world.attempt(hang))
    await asyncio.sleep(0)
    assert reason(await world.attempt(hang)) == "pending_limit"
    assert reason(await first) == "decision_timeout"
    await asyncio.wait_for(cancelled.wait(), 20)
    assert world.gate.tracker.open == 0
    assert isinstance(await world.attempt(), Admit)


@in_loop
async def test_client_that_leaves_while_it_is_decided_leaves_nothing() -> None:
    world = World(pacing={"enabled": True, "rate": 1.0, "burst": 1})

    async def hang() -> Any:
        await asyncio.Event().wait()

    attempt = asyncio.ensure_future(world.attempt(hang))
    await asyncio.sleep(0.01)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert world.gate.tracker.open == 0


@in_loop
async def test_response_says_reason_and_delay() -> None:
    world = World(limits={"connections": 0})
    decision = await world.attempt()
    assert isinstance(decision, Reject)
    status, headers, body = world.gate.response(decision)
    assert status == 503
    assert json.loads(body)["error"] == "server_limit"
    named = dict(headers)
    assert named["X-Rejection-Reason"] == "server_limit"
    assert int(named["Retry-After"]) == json.loads(body)["retryAfter"]
    assert named["Content-Type"] == "application/json"
    assert world.gate.refused(decision).reason == "server_limit"


@in_loop
async def test_full_gate_gives_tickets_that_are_admitted_in_turn() -> None:
    world = World(limits={"connections": 1}, waiting_room={"enabled": True})
    admit = await world.attempt()
    assert isinstance(admit, Admit)
    wait = await world.attempt()
    assert isinstance(wait, Wait)
    status, headers, _ = world.gate.response(wait)
    ticket = dict(headers)["X-Queue-Ticket"]
    assert status == 503
    assert world.gate.refused(wait).reason == "waiting"
    world.gate.release(admit.lease)
    world.now += 0.1
    world.gate.tick()
    again = world.gate.request(scope(("X-Queue-Ticket", ticket)))
    assert isinstance(await world.gate.decide(again), Admit)


@in_loop
async def test_draining_gate_refuses_all() -> None:
    world = World()
    assert world.gate.ready == (True, "")
    world.gate.begin_drain()
    assert reason(await world.attempt()) == "draining"
    assert world.gate.ready == (False, "draining")
    assert world.gate.draining


@in_loop
async def test_limits_change_while_it_runs() -> None:
    world = World(limits={"per_ip": 1})
    assert isinstance(await world.attempt(), Admit)
    assert reason(await world.attempt()) == "ip_limit"
    assert world.gate.apply({"limits": {"per_ip": 2}}) == (["limits.per_ip"], [])
    assert isinstance(await world.attempt(), Admit)
    with pytest.raises(ConfigError):
        world.gate.apply({"limits": {"per_ip": -2}})
    snapshot = world.gate.snapshot()
    assert (snapshot.connections.current, snapshot.connections.rejected) == (2, 1)


@in_loop
async def test_gate_samples_the_pressure_while_it_runs() -> None:
    gate = LocalGate({"limits": {"connections": 1}, "shedding": {"enabled": True}})
    async with gate.running():
        admit = await gate.decide(gate.request(scope()))
        assert isinstance(admit, Admit)
        for _ in range(500):
            if gate.shedder.pressure == 1.0:
                break
            await asyncio.sleep(0.01)
    assert gate.shedder.driver == "connections"


@in_loop
async def test_keys_that_have_to_be_fetched_are_waited_for() -> None:
    with JwksServer() as issuer:
        gate = LocalGate({"auth": issuer.auth})

        async def decide(token: str) -> Decision:
            header = ("authorization", f"Bearer {token}")
            return await gate.decide(gate.request(scope(header)))

        decisions = await asyncio.gather(*(decide(issuer.token("ann")) for _ in range(3)))
        for decision in decisions:
            assert isinstance(decision, Admit)
            assert decision.attempt.identity.user == "ann"
        gate.revoke("ann")
        assert reason(await decide(issuer.token("ann", iat=1))) == "unauthorized"
        assert issuer.requests == 1
        assert gate.undecided == 0

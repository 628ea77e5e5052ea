"""Attempts prompt and late, answers, cancels and releases in any order: the counts stay exact."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.gate.gate_world import Client, Promise, World, name, opening
from tidegate.core.admission.attempt import ANONYMOUS, Lease, Reject
from tidegate.core.codes import UNAUTHORIZED
from tidegate.core.settings.changes import merged
from tidegate.gate.decision import Admit, Away, Decision, Held, Pending, Wait

CONNECTIONS, PER_IP, PER_USER, SIZE = 4, 3, 2, 3
NUMBERS = st.integers(1, 3)
INDEX = st.integers(0, 9)
OUTCOMES = [name("ann"), name("bob/paid"), ANONYMOUS, UNAUTHORIZED, RuntimeError("swordfish")]


class GateMachine(RuleBasedStateMachine):
    """A gate with a waiting room beside a list of the leases that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            limits={"connections": CONNECTIONS, "per_ip": PER_IP, "per_user": PER_USER},
            tiers={"paid": {"reserved": 0.25}},
            waiting_room={"enabled": True, "size": SIZE},
        )
        self.open: list[Lease] = []
        self.pending: list[tuple[Pending, Promise]] = []
        self.ended: list[Promise] = []
        self.opening: list[Held] = []
        self.seated: list[Client] = []
        self.tickets: list[str] = []
        self.admitted = 0

    def take(self, decision: Decision | Pending) -> None:
        if isinstance(decision, Admit):
            self.open.append(decision.lease)
            self.admitted += 1
        elif isinstance(decision, Wait):
            if isinstance(decision.position, Away):
                self.tickets.append(decision.position.ticket)
            else:
                self.opening.append(decision.position)
        else:
            assert isinstance(decision, Reject)
        if self.world.admission.draining:
            assert isinstance(decision, Reject)

    def ticket(self, index: int) -> str | None:
        return self.tickets[index] if index < len(self.tickets) else None

    @rule(
        number=NUMBERS,
        token=st.sampled_from([None, "ann", "bob/paid", "bad"]),
        in_band=st.booleans(),
        ticket=INDEX,
    )
    def attempt(self, number: int, token: str | None, in_band: bool, ticket: int) -> None:
        request = opening(number, token=token, in_band=in_band, ticket=self.ticket(ticket))
        self.take(self.world.decide(request))

    @rule(number=NUMBERS, in_band=st.booleans(), ticket=INDEX)
    def attempt_late(self, number: int, in_band: bool, ticket: int) -> None:
        request = opening(number, token="later", in_band=in_band, ticket=self.ticket(ticket))
        decision = self.world.decide(request)
        if isinstance(decision, Admit | Reject | Wait):
            self.take(decision)
        else:
            self.pending.append((decision, self.world.names.promises[-1]))

    @precondition(lambda self: self.pending)
    @rule(index=INDEX, outcome=st.sampled_from(OUTCOMES))
    def answer(self, index: int, outcome: Any) -> None:
        pending, promise = self.pending.pop(index % len(self.pending))
        self.ended.append(promise)
        ready: list[bool] = []
        pending.then(lambda: ready.append(True))
        promise.keep(outcome)
        assert ready == [True]
        if isinstance(outcome, RuntimeError):
            with pytest.raises(RuntimeError):
                self.world.go_on(pending)
        else:
            self.take(self.world.go_on(pending))

    @precondition(lambda self: self.pending)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        pending, promise = self.pending.pop(index % len(self.pending))
        self.ended.append(promise)
        pending.cancel()

    @precondition(lambda self: self.open)
    @rule(index=INDEX)
    def release(self, index: int) -> None:
        lease = self.open.pop(index % len(self.open))
        assert self.world.tracker.release(lease)
        self.world.waiting.freed()

    @precondition(lambda self: self.opening)
    @rule()
    def seat(self) -> None:
        held = self.opening.pop(0)
        client = Client()
        self.world.waiting.seated(client, held)
        self.world.waiting.greet(client, self.world.now)
        self.seated.append(client)

    @precondition(lambda self: self.seated)
    @rule(index=INDEX, gone=st.booleans())
    def leave(self, index: int, gone: bool) -> None:
        """A client that waits leaves; the end of its socket may be seen later."""
        client = self.seated[index % len(self.seated)]
        client.closed = True
        if gone:
            self.seated.remove(client)
            self.world.waiting.gone(client, self.world.now)

    @rule()
    def turn(self) -> None:
        self.world.turn()
        self.collect()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.collect()

    @rule(
        size=st.integers(1, SIZE),
        max_wait=st.sampled_from([5.0, 30.0]),
        per_ip=st.integers(1, PER_IP),
    )
    def change_settings(self, size: int, max_wait: float, per_ip: int) -> None:
        changes: dict[str, dict[str, object]] = {
            "waiting_room": {"size": size, "max_wait": max_wait},
            "limits": {"per_ip": per_ip},
        }
        settings = merged(self.world.settings, changes)
        self.world.tracker.apply(settings.limits, settings.tiers)
        self.world.admission.apply(settings, self.world.now)
        self.world.waiting.apply(settings)

    @precondition(lambda self: self.admitted > 3)
    @rule()
    def drain(self) -> None:
        self.world.admission.draining = True

    def collect(self) -> None:
        for client in self.world.admitted:
            assert client.lease is not None
            self.open.append(client.lease)
            self.seated.remove(client)
            self.admitted += 1
        self.world.admitted.clear()
        for client in [client for client in self.seated if client.ended is not None]:
            self.seated.remove(client)
            self.world.waiting.gone(client, self.world.now)

    @invariant()
    def counts_are_exact_and_caps_hold(self) -> None:
        world = self.world
        tracker = world.tracker
        assert tracker.open == len(self.open) + world.waiting.kept <= CONNECTIONS
        assert world.stats.accepted == self.admitted
        for number in (1, 2, 3):
            address = f"192.0.2.{number}"
            here = sum(lease.address == address for lease in self.open)
            assert here <= tracker.ip_count(address) <= PER_IP
        for user in ("ann", "bob"):
            of_user = sum(lease.user == user for lease in self.open)
            assert of_user <= tracker.user_count(user) <= PER_USER
        assert all(lease.held for lease in self.open)
        assert len(world.waiting) <= SIZE

    @invariant()
    def every_position_ends_once(self) -> None:
        waiting, waited = self.world.waiting, self.world.stats.waited
        ended = sum(waited.values()) - waited["entered"]
        assert waited["entered"] == ended + len(waiting) + waiting.kept

    @invariant()
    def every_pending_ends_once(self) -> None:
        assert all(promise.taken + promise.cancelled == 1 for promise in self.ended)
        assert all(promise.taken + promise.cancelled == 0 for _, promise in self.pending)

    def teardown(self) -> None:
        world = self.world
        while self.pending:
            self.cancel(0)
        while self.opening:
            self.seat()
        for _ in range(10):
            self.pass_time(20.0)
            while self.open:
                self.release(0)
        self.every_pending_ends_once()
        assert (world.tracker.open, world.tracker.unique_ips, world.tracker.unique_users) == (
            0,
        ) * 3
        assert (len(world.waiting), world.waiting.kept) == (0, 0)
        assert [client for client in self.seated if not client.closed] == []
        for client in self.seated:
            world.waiting.gone(client, world.now)
        # Nothing of a client that has left is kept in memory.
        waiting = world.waiting
        left = (waiting._seated, waiting._opening, waiting._until, waiting._kept)
        assert not any(left)


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=60, stateful_step_count=50)

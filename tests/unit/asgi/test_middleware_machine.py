"""The gate counts what is open, after any attempts, events, ends and times."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.asgi.fake_server import FakeServer
from tidegate.asgi import GateMiddleware
from tidegate.asgi.local import LocalGate
from tidegate.asgi.types import Receive, Scope, Send

LIMIT, PER_ADDRESS = 4, 3
PATIENCE = 2.0
LONG = 12.0
"""Seconds after which the middleware has noticed and ended all that it can."""
SETTINGS: dict[str, dict[str, object]] = {
    "limits": {"connections": LIMIT, "per_ip": PER_ADDRESS},
    "server": {"shutdown_timeout": PATIENCE, "handshake_timeout": 5.0},
    "messages": {"max_size": 10, "per_second": 0},
}
DOES = st.sampled_from(
    ["accept", "deny", "response", "send", "receive", "close", "return", "raise"]
)


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Peer(FakeServer):
    """One attempt: its client, its server, and what its application is told to do."""

    def __init__(self, gate: GateMiddleware, *, tells: bool, **scope: Any) -> None:
        self.does_next: asyncio.Queue[str] = asyncio.Queue()
        self.left = False
        self.called = self.over = self.too_big = False
        super().__init__(gate, peer=self, **scope)
        self.tells = tells
        self.refuses = self._error

    @property
    def closed(self) -> bool:
        return bool({"websocket.close", "websocket.http.response.start"} & set(self.kinds))

    @property
    def open(self) -> bool:
        is_open = "websocket.accept" in self.kinds and not self.closed
        return is_open and not self.left and not self.over

    def _error(self, event: Any) -> Exception | None:
        if self.left and self.tells:
            return OSError("gone")
        if event["type"].startswith("websocket.http") and "websocket.accept" in self.kinds:
            return RuntimeError("accepted already")
        return None

    async def _send(self, event: Any) -> None:
        await super()._send(event)
        if event["type"] == "websocket.close":
            self.leaves(event.get("code", 1000))  # as servers tell the application of it

    def goes(self) -> None:
        self.left = True
        self.free.set()
        self.leaves()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    peer = scope["peer"]
    peer.called = True
    try:
        await receive()
        await obey(peer, receive, send)
    finally:
        peer.over = True


async def obey(peer: Peer, receive: Receive, send: Send) -> None:
    while True:
        match await peer.does_next.get():
            case "accept":
                await send({"type": "websocket.accept"})
            case "deny" | "close":
                await send({"type": "websocket.close", "code": 4000})
            case "response":
                await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b""})
            case "send":
                await send({"type": "websocket.send", "text": "hello"})
            case "receive":
                await receive()
            case "return":
                return
            case "raise":
                raise LookupError("of the application")


class MiddlewareMachine(RuleBasedStateMachine):
    """The middleware between clients that do anything and an application that does anything."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clock()
        self.gate = LocalGate(SETTINGS, clock=self.loop.time)
        self.middleware = GateMiddleware(application, gate=self.gate)
        self.all: list[Peer] = []
        self.drained = False

    def teardown(self) -> None:
        for peer in self.all:
            peer.goes()
        self.passes(LONG)
        assert all(peer.task.done() for peer in self.all)
        assert (self.gate.tracker.open, self.gate.tracker.unique_ips) == (0, 0)
        for peer in self.all:
            if not peer.task.cancelled():
                assert isinstance(
                    peer.task.exception(), LookupError | OSError | RuntimeError | None
                )
        self.gate.stop()
        self.settle()
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def passes(self, seconds: float) -> None:
        is_open = [peer for peer in self.all if peer.open]
        until = self.loop.now + seconds
        while self.loop.now < until:
            self.loop.now += 1.0
            self.settle()
        assert self.drained or all(peer.open for peer in is_open)

    def running(self, address: str | None = None) -> list[Peer]:
        return [
            peer
            for peer in self.all
            if peer.called and not peer.task.done() and address in (None, peer.scope["client"][0])
        ]

    @rule(
        target=peers,
        address=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
        offers=st.sampled_from([(), ("tidegate.v1",)]),
        denial=st.booleans(),
        tells=st.booleans(),
        begins=st.sampled_from(["accept", "accept", "nothing"]),
    )
    def attempt(
        self, address: str, offers: tuple[str, ...], denial: bool, tells: bool, begins: str
    ) -> Peer:
        tracker = self.gate.tracker
        fits = tracker.open < LIMIT and tracker.ip_count(address) < PER_ADDRESS
        admitted = fits and not self.drained

        async def make() -> Peer:
            options = {"client": (address, 5000), "subprotocols": offers, "denial": denial}
            return Peer(self.middleware, tells=tells, **options)

        peer = self.loop.run_until_complete(make())
        self.all.append(peer)
        peer.does_next.put_nowait(begins)
        self.settle()
        assert peer.called == admitted
        assert peer.task.done() != admitted
        return peer

    @rule(peer=peers, does=DOES)
    def application_does(self, peer: Peer, does: str) -> None:
        peer.does_next.put_nowait(does)
        self.settle()

    @rule(peer=peers, size=st.sampled_from([1, 11]))
    def client_says(self, peer: Peer, size: int) -> None:
        # One that takes nothing, not even the close, would be neither open nor closed.
        if peer.open and (size <= 10 or peer.free.is_set()):
            peer.too_big |= size > 10
            peer.says("x" * size)
            self.settle()

    @rule(peer=peers)
    def client_goes(self, peer: Peer) -> None:
        if not peer.left:
            peer.goes()
            self.settle()

    @rule(peer=peers)
    def client_takes_nothing(self, peer: Peer) -> None:
        if peer.open and not peer.too_big:
            peer.free.clear()

    @rule(peer=peers)
    def server_cancels(self, peer: Peer) -> None:
        peer.task.cancel()
        self.settle()

    @rule(seconds=st.sampled_from([1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.passes(seconds)

    @rule()
    def all_is_noticed(self) -> None:
        self.passes(LONG)
        assert self.gate.tracker.open == sum(peer.open for peer in self.all)

    @precondition(lambda self: len(self.all) > 10)
    @rule()
    def drain(self) -> None:
        self.drained = True
        task = self.loop.create_task(self.middleware.drain(0.0))
        self.passes(LONG)
        assert task.done()
        assert self.gate.tracker.open == 0

    @invariant()
    def gate_counts_what_is_open(self) -> None:
        tracker = self.gate.tracker
        running = self.running()
        assert sum(peer.open for peer in self.all) <= tracker.open <= len(running)
        assert tracker.open <= LIMIT
        by_address = Counter(peer.scope["client"][0] for peer in self.all if peer.open)
        for address, count in by_address.items():
            assert count <= tracker.ip_count(address) <= len(self.running(address))
        stats = self.gate.stats
        assert stats.accepted - sum(stats.disconnected.values()) == tracker.open


MiddlewareMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
test_middleware = MiddlewareMachine.TestCase

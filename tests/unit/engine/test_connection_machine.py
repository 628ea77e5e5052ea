"""Any mixture of connecting, talking and ending, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.raw import CLOSE, PING, TEXT, frame
from tests.unit.engine.live import Client, Live, masked, until
from tidegate.engine.connection import Connection

MESSAGES = ["plain", "slow", "raise", "raise_later", "close", "abort", "flood"]
PEER_ENDS = ["close", "close and leave", "leave", "half_close", "reset", "nonsense", "part"]


class Handlers:
    """What messages have the server do. Slow ones wait until they are let go."""

    def __init__(self, live: Live) -> None:
        self.waiting: list[asyncio.Event] = []
        self.inside: set[int] = set()
        live.recorder.doing = {
            "slow": self.slow,
            "raise": self.fail,
            "raise_later": self.fail_later,
            "close": lambda connection: connection.close(4000),
            "abort": lambda connection: connection.abort(),
            "flood": self.flood,
        }

    async def slow(self, connection: Connection) -> None:
        assert connection.number not in self.inside, "two handlers of a connection at once"
        self.inside.add(connection.number)
        self.waiting.append(asyncio.Event())
        try:
            await self.waiting[-1].wait()
        finally:
            self.inside.remove(connection.number)

    async def fail_later(self, connection: Connection) -> None:
        await asyncio.sleep(0)
        raise RuntimeError

    def fail(self, connection: Connection) -> None:
        raise RuntimeError

    def flood(self, connection: Connection) -> None:
        for _ in range(20):
            connection.send(bytes(10_000))


class Mixture(RuleBasedStateMachine):
    """Whatever happens, the counts are right all the time and every end is told once."""

    clients: list[tuple[Client, Connection]]

    @initialize()
    def begin(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.errors: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.clients = []
        self.said: dict[int, int] = {}
        self.live = Live({"outbox": {"max_bytes": 1 << 16}})
        self.handlers = Handlers(self.live)
        self.do(self.live.__aenter__())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def turn() -> Any:
            result = await work
            await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(turn())

    def pick(self, which: int) -> tuple[Client, Connection]:
        return self.clients[which % len(self.clients)]

    @rule(slow=st.booleans())
    def connect(self, slow: bool) -> None:
        self.clients.append(self.do(self.live.open(slow=slow)))

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), kinds=st.lists(st.sampled_from(MESSAGES), max_size=4))
    def say(self, which: int, kinds: list[str]) -> None:
        client, connection = self.pick(which)
        data = frame(PING)
        for kind in kinds:
            number = self.said[connection.number] = self.said.get(connection.number, -1) + 1
            data += masked(f"{kind} {number}")
        self._send(client, data)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), way=st.sampled_from(PEER_ENDS))
    def peer_ends(self, which: int, way: str) -> None:
        client, _ = self.clients.pop(which % len(self.clients))
        if way.startswith("close"):
            self._send(client, frame(CLOSE, b"\x03\xe8"))
        elif way == "nonsense":
            self._send(client, b"\xff\xff\xff")
        elif way == "part":
            self._send(client, frame(TEXT, b"never whole")[:7])
        if way in ("close and leave", "part", "leave"):
            client.leave()
        elif way == "half_close":
            client.half_close()
        elif way == "reset":
            client.reset()

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), way=st.sampled_from(["close", "abort", "send"]))
    def server_acts(self, which: int, way: str) -> None:
        _, connection = self.pick(which)
        act: dict[str, Callable[[], None]] = {
            "close": connection.close,
            "abort": connection.abort,
            "send": lambda: connection.send("hello"),
        }
        act[way]()
        self.do(asyncio.sleep(0))

    @rule()
    def handlers_go_on(self) -> None:
        for event in self.handlers.waiting:
            event.set()
        self.handlers.waiting.clear()
        self.do(asyncio.sleep(0))

    @rule()
    def a_handler_is_cancelled(self) -> None:
        if self.handlers.inside:
            for task in self.live.node.engine.shared.tasks._running:
                task.cancel()
        self.do(asyncio.sleep(0))

    @rule()
    def to_everyone(self) -> None:
        members = list(self.live.node.connections)
        self.live.node.engine.shared.fanout.publish(
            "room", members, lambda _: frame(TEXT, b"x", masked=False), 1
        )
        self.do(asyncio.sleep(0))

    @invariant()
    def the_counts_are_right(self) -> None:
        server = self.live.node
        there = list(server.connections)
        assert server.tracker.open == len(there) == len(server.engine.shared.heartbeat)
        assert len(set(self.live.recorder.ends)) == len(self.live.recorder.ends)
        assert sum(server.stats.disconnected.values()) + len(there) == server.stats.accepted

    @invariant()
    def messages_come_in_order(self) -> None:
        for connection in self.live.recorder.connections:
            number = connection.number
            got = [text for who, text in self.live.recorder.messages if who == number]
            assert [str(text).split(" ")[1] for text in got] == [str(n) for n in range(len(got))]
            assert len(got) <= self.said.get(number, -1) + 1

    def _send(self, client: Client, data: bytes) -> None:
        async def send() -> None:
            try:
                client.sock.send(data)
            except OSError:
                client.leave()

        self.do(send())

    def teardown(self) -> None:
        self.live.all_leave()

        async def end() -> None:
            # Handlers that begin only now must not wait for ever.
            while list(self.live.node.connections) or self.handlers.inside:
                for event in self.handlers.waiting:
                    event.set()
                await asyncio.sleep(0)
            await until(lambda: not self.live.node.engine.shared.tasks)
            await self.live.__aexit__(None, None, None)

        self.do(end())
        self.loop.close()
        assert self.errors == []


@pytest.fixture
def quiet() -> Iterator[None]:
    """Handlers that fail on purpose are logged thousands of times."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet", "each_poller")
def test_any_mixture() -> None:
    run_state_machine_as_test(Mixture, settings=settings(max_examples=12, stateful_step_count=20))

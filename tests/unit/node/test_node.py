"""One node: its life, what is known of it, and what its parts tell each other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from tests.support.brokers import ToyBroker
from tests.support.clients import Client, run_guarded, until
from tests.support.raw import CLOSE
from tests.unit.node.node_world import Recorder, World, admitted, idle_node, settings_of
from tidegate.backplane.base import Broker, Receiver
from tidegate.core.admission.attempt import Lease
from tidegate.core.admission.shedding import Change, Zone
from tidegate.core.codes import (
    DRAINED,
    SHUTDOWN,
    close_text,
)
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.errors import BackplaneError, ConfigError
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.wire.codecs import JSON_V1

# Life.


def test_node_from_start_to_stop_says_how_it_is() -> None:
    async def main() -> None:
        world = World(limits={"connections": 1})
        node = world.node
        assert (node.ready, node.uptime) == ((False, "not listening"), 0.0)
        assert node.addresses == []
        await node.start()
        ((host, port),) = node.addresses
        assert (host, port > 0) == ("127.0.0.1", True)
        assert node.ready == (True, "")
        assert 0 < node.uptime < 5

        lease = node.tracker.acquire("192.0.2.1")
        assert isinstance(lease, Lease)
        assert node.ready == (False, "server_limit")
        node.tracker.release(lease)
        node.admission.draining = True
        assert node.ready == (False, "draining")
        node.admission.draining = False
        assert node.ready == (True, "")

        await node.stop()
        assert node.admission.draining
        assert node.ready == (False, "not listening")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        await node.stop()

    run_guarded(main())


def test_node_that_was_never_started_can_be_stopped() -> None:
    async def main() -> None:
        node = idle_node()
        await node.stop()
        assert node.ready == (False, "not listening")

    run_guarded(main())


def test_node_with_an_address_that_is_taken_says_so_and_can_be_stopped() -> None:
    async def main() -> None:
        async with World() as world:
            second = idle_node(server={"port": world.port})
            with pytest.raises(ConfigError, match=f"port {world.port}"):
                await second.start()
            assert world.node.ready == (True, "")
            await second.stop()

    run_guarded(main())


def test_node_whose_broker_cannot_be_reached_does_not_listen() -> None:
    class Unreachable(ToyBroker):
        async def start(self, receiver: Receiver, /) -> None:
            raise BackplaneError("nobody answers")

    async def main() -> None:
        broker: Broker = Unreachable()
        node = Node(settings_of(), lambda _services: Recorder(), broker=broker)
        with pytest.raises(BackplaneError, match="nobody answers"):
            await node.start()
        assert node.addresses == []
        assert node.ready == (False, "not listening")
        await node.stop()

    run_guarded(main())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_node_serves_until_a_signal_comes(name: str) -> None:
    async def main() -> None:
        node = idle_node()
        serving = asyncio.create_task(node.serve())
        await until(lambda: node.addresses)
        os.kill(os.getpid(), getattr(signal, name))
        await serving
        assert node.addresses == []

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_guarded(main())
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def test_node_that_stops_closes_its_connections_and_says_why() -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            stopping = asyncio.create_task(world.node.stop())
            assert await client.closed() == (1001, close_text(SHUTDOWN, SHUTDOWN.retry_after))
            await stopping
            assert world.disconnected() == {"shutdown": 1}
            assert world.node.tracker.open == 0

    run_guarded(main())


def test_node_that_drains_refuses_attempts_and_closes_its_connections() -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            draining = asyncio.create_task(world.node.drain(0.2))
            await until(lambda: world.node.shutdown.drain)
            assert await world.status() == (503, "draining")
            assert await client.closed() == (1012, close_text(DRAINED, 0))
            await draining
            assert world.disconnected() == {"drained": 1}
            assert world.node.addresses == []

    run_guarded(main())


# What is known of it.


def test_ready_of_a_full_node_on_trial_is_true() -> None:
    async def main() -> None:
        async with World(limits={"connections": 0, "dry_run": ["connections"]}) as world:
            assert world.node.ready == (True, "")

    run_guarded(main())


def test_ready_of_a_node_out_of_rotation_is_false() -> None:
    async def main() -> None:
        async with World(breaker={"enabled": True, "rejections": 2, "window": 60}) as world:
            for _ in range(2):
                world.node.admission.breaker.rejected(monotonic())
            assert world.node.ready == (False, "breaker")
            assert await world.status() == (503, "breaker")

    run_guarded(main())


def test_connections_of_a_node_are_those_with_a_socket() -> None:
    async def main() -> None:
        async with World() as world:
            assert list(world.node.connections) == []
            clients = [await world.open() for _ in range(3)]
            assert set(world.node.connections) == set(world.recorder.opened_by)
            clients[0].leave()
            await until(lambda: len(list(world.node.connections)) == 2)

    run_guarded(main())


def test_version_of_a_node_is_that_of_the_package() -> None:
    assert idle_node().version.count(".") >= 2


@pytest.mark.parametrize(
    ("path", "status", "key"), [("/health", 200, "status"), ("/ready", 200, "ready")]
)
def test_node_with_the_native_protocol_answers_health_checks(
    path: str, status: int, key: str
) -> None:
    async def main() -> None:
        node = Node(settings_of(), NativeApplication)
        await node.start()
        client = await Client.at(node.addresses[0][1])
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = await client.response()
        assert response.status == status
        assert key in json.loads(response.body)
        client.leave()
        await node.stop()

    run_guarded(main())


# Policies that are only tried out.


def test_dry_run_is_counted_and_warned_of_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with World(limits={"connections": 1, "dry_run": ["connections"]}) as world:
            for _ in range(4):
                assert await world.status() == (101, None)
            assert world.node.stats.dry_run["connections"] == 3

    run_guarded(main())
    assert caplog.records
    texts = {record.getMessage().split(" (")[0] for record in caplog.records}
    assert texts == {"dry run: connections would have refused an attempt"}
    assert len(caplog.records) < 3


# Pressure.


def test_zone_that_changes_reaches_the_application_and_the_hook() -> None:
    async def main() -> None:
        changes: list[Change] = []
        recorder = Recorder()
        node = Node(
            settings_of(limits={"connections": 2}, shedding={"enabled": True}),
            lambda _services: recorder,
            on_zone_change=changes.append,
        )
        for _ in range(2):
            node.tracker.acquire("192.0.2.1")
        node.tick(monotonic() + 1)
        (change,) = changes
        assert (change.new, change.driver) == (Zone.EMERGENCY, "connections")
        ((zone, profile, degraded),) = recorder.profiles
        assert (zone, profile.broadcast, degraded) == (Zone.EMERGENCY, False, True)
        assert profile.ping_interval == 120.0

    run_guarded(main())


# Waiting.


def waits(status: dict[str, Any]) -> tuple[str, int, int]:
    return status["type"], status["position"], status["totalInQueue"]


def test_connection_that_waits_is_admitted_when_another_leaves() -> None:
    async def main() -> None:
        node = Node(
            settings_of(limits={"connections": 1}, waiting_room={"enabled": True}),
            NativeApplication,
        )
        await node.start()
        port = node.addresses[0][1]
        first = await Client.open(port, JSON_V1)
        assert json.loads(await first.text())["type"] == "connected"
        second = await Client.open(port, JSON_V1)
        third = await Client.open(port, JSON_V1)
        assert waits(json.loads(await second.text())) == ("queue_status", 1, 1)
        assert waits(json.loads(await third.text())) == ("queue_status", 2, 2)
        assert (node.tracker.open, len(list(node.connections)), len(node.waiting)) == (1, 3, 2)
        # One that waits and leaves gives back its position, and counts as no connection.
        second.leave()
        await until(lambda: len(node.waiting) == 1)
        assert sum(node.stats.disconnected.values()) == 0
        first.leave()
        await admitted(third)
        assert (node.tracker.open, len(node.waiting), node.stats.accepted) == (1, 0, 2)
        third.leave()
        await node.stop()
        assert node.tracker.open == 0

    run_guarded(main())


# Handlers of one connection, one at a time.


class Slow(Application[Connection]):
    """Takes as long for a message as the test says."""

    subprotocols = (JSON_V1,)
    in_band = frozenset((JSON_V1,))
    holds_waiting = True

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def message(self, connection: Connection, message: str | bytes, /) -> None:
        self.log.append("message begins")
        await self.may_end.wait()
        self.log.append("message ends")
        if self.error is not None:
            raise self.error

    async def admitted(self, connection: Connection, /) -> None:
        self.log.append("admitted begins")
        await asyncio.sleep(0)
        self.log.append("admitted ends")

    def closed(self, connection: Connection, code: int, text: str, /) -> None:
        self.log.append(f"closed {connection.number}")


async def admitted_while_busy(slow: Slow) -> tuple[Node, Client]:
    """A node whose second connection was admitted while its handler is at work."""
    node = Node(
        settings_of(limits={"connections": 1}, waiting_room={"enabled": True}),
        lambda _services: slow,
    )
    await node.start()
    port = node.addresses[0][1]
    first, second = [await Client.open(port, JSON_V1) for _ in range(2)]
    await second.say("hello")
    await until(lambda: slow.log)
    first.leave()
    await until(lambda: len(node.waiting) == 0 and "closed 1" in slow.log)
    return node, second


def test_connection_that_is_admitted_while_its_handler_is_at_work_is_told_afterwards() -> None:
    async def main() -> None:
        slow = Slow()
        node, client = await admitted_while_busy(slow)
        slow.may_end.set()
        await until(lambda: "admitted ends" in slow.log)
        client.leave()
        await until(lambda: "closed 2" in slow.log)
        await node.stop()
        assert slow.log == [
            "message begins",
            "closed 1",
            "message ends",
            "admitted begins",
            "admitted ends",
            "closed 2",
        ]
        assert not node.engine.shared.deferred

    run_guarded(main())


@pytest.mark.parametrize("leave", [Client.leave, Client.reset])
def test_connection_that_leaves_before_it_is_told_of_its_admission_is_told_its_end_only(
    leave: Callable[[Client], None],
) -> None:
    async def main() -> None:
        slow = Slow()
        node, client = await admitted_while_busy(slow)
        leave(client)
        await until(lambda: node.tracker.open == 0)
        assert not node.engine.shared.deferred
        slow.may_end.set()
        await until(lambda: "closed 2" in slow.log)
        await node.stop()
        assert slow.log == ["message begins", "closed 1", "message ends", "closed 2"]

    run_guarded(main())


def test_connection_whose_handler_fails_is_not_told_of_its_admission() -> None:
    async def main() -> None:
        slow = Slow()
        slow.error = RuntimeError("of the application")
        node, client = await admitted_while_busy(slow)
        slow.may_end.set()
        frame = await client.frame()
        while frame.opcode != CLOSE:
            frame = await client.frame()
        assert frame.code == 1011
        client.leave()
        await until(lambda: "closed 2" in slow.log)
        await node.stop()
        assert slow.log == ["message begins", "closed 1", "message ends", "closed 2"]
        assert not node.engine.shared.deferred

    run_guarded(main())

"""What a node does when a connection ends: what is given back, counted and logged."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import pytest

from tests.support.brokers import ToyBroker
from tests.support.clients import Client, run_guarded, until
from tests.support.raw import TEXT, frame
from tests.unit.node.node_world import Recorder, World, idle_node, settings_of
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease
from tidegate.core.codes import (
    AUTH_TIMEOUT,
    EOF,
    HANDLER_ERROR,
    SHED,
    TOKEN_EXPIRED,
    Close,
    close_text,
)
from tidegate.engine.connection import Connection
from tidegate.engine.door import Grant
from tidegate.engine.states import Admission
from tidegate.node.node import Node


class Peer:
    """As much of a connection as the node sees of one that ends."""

    def __init__(self, lease: Lease) -> None:
        self.id, self.number = "n-1", 1
        self.lease = lease
        self.admission = Admission.ADMITTED
        self.rooms: tuple[str, ...] = ()
        self.open = True
        self.ends: list[Close] = []

    @property
    def user(self) -> str | None:
        return self.lease.user

    def end(self, reason: Close) -> None:
        self.ends.append(reason)


def opened(node: Node, identity: Identity = ANONYMOUS, **grant: Any) -> Any:
    """A connection whose grant the node was told of."""
    lease = node.tracker.acquire("192.0.2.1", identity)
    assert isinstance(lease, Lease)
    peer = Peer(lease)
    peer.admission = grant.get("admission", Admission.ADMITTED)
    node.granted(cast(Any, peer), Grant(b"", lease, "/ws", **grant))
    return peer


def test_gone_gives_back_lease_rooms_user_and_deadlines_once() -> None:
    async def main() -> None:
        broker = ToyBroker(late=0)
        node = Node(settings_of(), lambda _services: Recorder(), broker=broker)
        peer = opened(node, Identity("ann"), expires_in=1)
        answers: list[Any] = []
        for room in ("a", "b"):
            node.delivery.join(peer, room, answers.append)
        assert answers == [None, None]
        assert (node.tracker.open, len(node.rooms), len(node.users)) == (1, 2, 1)
        assert broker.wanted == {"a", "b"}
        for _ in range(2):
            node.gone(peer, EOF)
        assert (node.tracker.open, len(node.rooms), len(node.users)) == (0, 0, 0)
        assert node.tracker.user_count("ann") == 0
        assert (peer.rooms, broker.wanted) == ((), set())
        assert node.stats.disconnected["eof"] == 1
        node.tick(monotonic() + 40)
        assert peer.ends == []

    run_guarded(main())


@pytest.mark.parametrize(
    ("grant", "ends"),
    [
        ({}, []),
        ({"expires_in": 50}, []),
        ({"expires_in": 30}, [TOKEN_EXPIRED]),
        ({"admission": Admission.UNIDENTIFIED}, [AUTH_TIMEOUT]),
    ],
)
def test_deadlines_of_a_grant_are_looked_at_in_every_tick(
    grant: dict[str, Any], ends: list[Close]
) -> None:
    node = idle_node()
    peer = opened(node, **grant)
    node.tick(monotonic() - 6)
    assert peer.ends == []
    node.tick(monotonic() + 40)
    node.tick(monotonic() + 41)
    assert peer.ends == ends


def leave(client: Client, connection: Connection) -> None:
    client.leave()


def reset(client: Client, connection: Connection) -> None:
    client.reset()


def shed(client: Client, connection: Connection) -> None:
    connection.end(SHED)


def end_for_the_application(client: Client, connection: Connection) -> None:
    connection.close(4001, "of the application")


def abort(client: Client, connection: Connection) -> None:
    connection.abort()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (leave, "eof"),
        (reset, "reset"),
        (shed, "shed"),
        (end_for_the_application, "normal"),
        (abort, "aborted"),
    ],
)
def test_connection_that_ends_is_counted_by_its_reason(
    end: Callable[[Client, Connection], None], reason: str
) -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            connection = world.connection
            end(client, connection)
            if not connection.open and not connection.closed:
                await client.closed()
            await until(lambda: world.recorder.closes)
            assert connection.closed
            assert world.disconnected() == {reason: 1}
            assert world.node.tracker.open == 0

    run_guarded(main())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(TEXT, b"unmasked", masked=False), "protocol_error"),
        (frame(TEXT, b"\xff"), "invalid_data"),
        (frame(TEXT, bytes(2000)), "message_too_big"),
        (frame(8, (1000).to_bytes(2)), "normal"),
    ],
)
def test_connection_that_its_peer_ends_is_counted_by_its_reason(data: bytes, reason: str) -> None:
    async def main() -> None:
        async with World(messages={"max_size": 1000}) as world:
            client = await world.open()
            await client.send(data)
            await client.closed()
            client.leave()
            await until(lambda: world.recorder.closes)
            assert world.disconnected() == {reason: 1}

    run_guarded(main())


def test_application_that_raises_is_logged_and_its_connection_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with World() as world:
            client, other = await world.open(), await world.open()
            number = world.recorder.opened_by[0].id
            await client.say("boom")
            assert await client.closed() == (1011, close_text(HANDLER_ERROR, 5))
            await until(lambda: world.disconnected() == {"handler_error": 1})
            await other.say("hello")
            assert await other.text() == "hello"
            (record,) = caplog.records
            assert record.getMessage() == f"a handler of connection {number} failed"
            assert record.exc_info is not None
            assert str(record.exc_info[1]) == "of the application"

    run_guarded(main())

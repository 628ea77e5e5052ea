"""Control of a node with 15,000 connections: what a dashboard asks for keeps nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support.aio import run
from tests.unit.node.control_world import Peer, control_of, settings_of
from tidegate.core.admission.attempt import Identity, Lease
from tidegate.node.control import ConnectionsQuery, Control, RoomsQuery
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node

CONNECTIONS = 15_000
BETWEEN_TURNS = 1500
"""Connections or rooms that may be looked at before the loop gets its turn."""


class Counted:
    """Something to iterate over that counts how many were looked at between two turns."""

    def __init__(self) -> None:
        self.looks = 0
        self.most = 0

    def look(self, *_: object) -> int:
        self.looks += 1
        self.most = max(self.most, self.looks)
        return 1

    async def beside(self, work: Awaitable[Any]) -> Any:
        """Do some work, with a task beside it that sees when the loop has its turns."""
        over = False

        async def watch() -> None:
            while not over:
                self.looks = 0
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        try:
            return await work
        finally:
            over = True
            await watching


@pytest.mark.parametrize("query", [RoomsQuery(), RoomsQuery(after=""), RoomsQuery(search="9")])
def test_rooms_of_a_crowd_are_looked_at_in_batches(query: RoomsQuery) -> None:
    counted = Counted()

    class Name(str):
        __slots__ = ()

        def __contains__(self, part: object) -> bool:
            counted.look()
            return str.__contains__(self, str(part))

    names = [Name(f"room:{number:05}") for number in range(CONNECTIONS)]
    control = control_of([])
    rooms: Any = control._node.rooms
    for name in names:
        rooms.join(Peer(1), name)
    found = run(counted.beside(control.rooms(query)))
    assert (found.total, len(found.rooms)) == (CONNECTIONS, 100)
    assert 0 < counted.most <= BETWEEN_TURNS


def test_connections_of_a_crowd_are_looked_at_in_batches() -> None:
    counted = Counted()

    class Counting(Peer):
        @property
        def closed(self) -> bool:
            counted.look()
            return False

        @closed.setter
        def closed(self, _value: bool) -> None:
            pass

    control = control_of([Counting(number) for number in range(1, CONNECTIONS + 1)])
    found = run(counted.beside(control.connections(ConnectionsQuery(limit=50))))
    assert (len(found.connections), found.next) == (50, 50)
    assert 0 < counted.most <= BETWEEN_TURNS


POLLED: list[Callable[[Control], object]] = [
    Control.snapshot,
    Control.sample,
    Control.status,
    Control.drain_progress,
]


def test_polls_of_the_page_of_a_room_look_at_that_room_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = control_of([Peer(1, rooms=("chat",)), Peer(2, rooms=("lobby",))])

    def looked(_: object) -> Iterator[str]:
        raise AssertionError("a poll looks at every room")

    monkeypatch.setattr(type(control._node.rooms), "__iter__", looked)
    found = run(control.rooms(RoomsQuery(name="chat")))
    assert [(row.name, row.members) for row in found.rooms] == [("chat", 1)]


@pytest.mark.parametrize("poll", POLLED, ids=lambda poll: poll.__name__)
def test_polls_of_a_dashboard_look_at_no_connection(
    poll: Callable[[Control], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(settings_of(limits={"per_ip": CONNECTIONS}), NativeApplication)

    def looked() -> Iterator[Any]:
        raise AssertionError("a poll looks at every connection")

    monkeypatch.setattr(node.engine, "connections", looked)
    monkeypatch.setattr(type(node.rooms), "__iter__", lambda _: looked())
    assert isinstance(node.tracker.acquire("192.0.2.1", Identity("ann")), Lease)
    poll(node.control)

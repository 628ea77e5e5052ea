"""The rooms of a node: which there are, and what is kept of them."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from tests.support.aio import run
from tests.support.clients import run_guarded
from tests.unit.node.control_world import Peer, World, control_of
from tidegate.core.messaging.history import History, Position
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import RoomsSettings
from tidegate.node.control import Publish, RoomHistory, RoomRow, RoomsPage, RoomsQuery

RULES: Any = [{"pattern": "chat", "history_size": 2}]


def test_rooms_show_what_they_keep() -> None:
    async def main() -> None:
        async with World(rooms={"rules": RULES}) as world:
            await world.open("ann", room="chat")
            await world.open("bob", room="lobby")
            for data in map(Raw, (b"1", b"2", b"3")):
                await world.control.publish(Publish(data=data, room="chat"))
            chat, lobby = (await world.control.rooms(RoomsQuery(after=""))).rooms
            assert lobby == RoomRow("lobby", 1, None)
            assert chat.history is not None
            assert (chat.history.offset, chat.history.messages) == (3, 2)
            assert chat.history.bytes == world.node.history.size

    run_guarded(main())


def test_a_room_is_found_by_its_exact_name_with_or_without_members() -> None:
    control = control_of([Peer(1, rooms=("chat",)), Peer(2, rooms=("chat2",))])
    assert run(control.rooms(RoomsQuery(name="chat"))) == RoomsPage([RoomRow("chat", 1)], 2, None)
    assert run(control.rooms(RoomsQuery(name="cha"))) == RoomsPage([], 2, None)
    history: History = control._node.history
    history.add(Publication("empty", b"1", epoch="e", offset=1), 10, 60.0, 0.0)
    (row,) = run(control.rooms(RoomsQuery(name="empty"))).rooms
    assert (row.name, row.members) == ("empty", 0)
    assert isinstance(row.history, RoomHistory)


def test_extent_of_a_history_counts_what_is_kept() -> None:
    history = History(RoomsSettings(), "node")
    assert history.extent("chat") is None
    for _ in range(3):
        epoch, offset = history.next("chat")
        history.add(Publication("chat", b"12", epoch=epoch, offset=offset), 2, 60.0, 0.0)
    found = history.extent("chat")
    assert found is not None
    assert found.position == Position("node-0", 3)
    assert (found.messages, found.bytes) == (2, history.size)

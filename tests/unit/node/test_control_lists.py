"""Control: lists of all nodes, page by page."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.json import encode

from tests.support.aio import run, turns_during
from tests.unit.node.control_world import Peer, control_of
from tidegate.backplane.base import Answers, CarryOut
from tidegate.core.messaging.publication import Publication
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.errors import UsageError
from tidegate.node.control import (
    ConnectionsQuery,
    Control,
    RoomRow,
    RoomsPage,
    RoomsQuery,
    UserRow,
    UsersPage,
    UsersQuery,
)
from tidegate.node.users import Users


class Wire:
    """Takes orders to all nodes; those in `away` do not answer."""

    def __init__(self) -> None:
        self.nodes: dict[str, CarryOut] = {}
        self.away: set[str] = set()
        self.sizes: list[int] = []
        """How many bytes each answer had."""

    async def ask(self, own: str, kind: str, body: bytes) -> Answers:
        bodies = []
        for name, carry_out in self.nodes.items():
            if name not in {own, *self.away}:
                answer = await carry_out(kind, body)
                assert answer is not None
                self.sizes.append(len(answer))
                bodies.append(answer)
        return Answers(bodies, complete=not self.away)


class Orders:
    """The orders of one node."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name

    def start(self, carry_out: CarryOut) -> None:
        self._wire.nodes[self._name] = carry_out

    async def ask(self, kind: str, body: bytes, _seconds: float) -> Answers:
        return await self._wire.ask(self._name, kind, body)


def node_of(wire: Wire | None, name: str, peers: list[Peer], backplane: Any = None) -> Control:
    users: Users[Any] = Users()
    for peer in peers:
        users.add(peer)
    if wire is not None:
        backplane = SimpleNamespace(orders=Orders(wire, name), revocations=None)
    control = control_of(
        peers,
        engine=SimpleNamespace(connections=lambda: iter(peers), shared=SimpleNamespace(name=name)),
        users=users,
        stats=Stats(),
        settings=Settings(),
        backplane=backplane,
    )
    control.join_fleet()
    return control


def fleet_of(*nodes: list[Peer]) -> tuple[Wire, list[Control]]:
    """Nodes named a, b, c…, with these connections."""
    wire = Wire()
    return wire, [node_of(wire, "abcdef"[number], peers) for number, peers in enumerate(nodes)]


def flat(pages: list[list[Any]]) -> list[Any]:
    return [row for page in pages for row in page]


async def every_connection(control: Control, **query: Any) -> list[list[tuple[int, Any]]]:
    """All pages of connections, as their numbers and nodes."""
    pages, after = [], "0"
    while True:
        page = await control.connections(ConnectionsQuery(after=after, scope="fleet", **query))
        pages.append([(row.number, row.node) for row in page.connections])
        assert page.complete
        if page.next is None:
            return pages
        after = str(page.next)


async def every_user(control: Control, **query: Any) -> list[list[UserRow]]:
    """All pages of users."""
    pages, after = [], ""
    while True:
        page = await control.users(UsersQuery(after=after, scope="fleet", **query))
        pages.append(page.users)
        if page.next is None:
            return pages
        after = page.next


async def every_room(control: Control, **query: Any) -> list[list[RoomRow]]:
    """All pages of rooms by name."""
    pages, after = [], ""
    while True:
        page = await control.rooms(RoomsQuery(after=after, scope="fleet", **query))
        pages.append(page.rooms)
        if page.next is None:
            return pages
        after = page.next


NODES = st.lists(
    st.lists(
        st.tuples(
            st.integers(1, 9),
            st.sampled_from((None, "ann", "bob", "cid", "dora")),
            st.sets(st.sampled_from(("r", "s", "t", "u"))),
        ),
        max_size=8,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=4,
)


@given(NODES, st.integers(1, 5))
def test_pages_of_a_fleet_have_everything_once_and_no_more_than_their_limit(
    nodes: list[list[tuple[int, str | None, set[str]]]], limit: int
) -> None:
    made = [[Peer(one, user, rooms=tuple(rooms)) for one, user, rooms in own] for own in nodes]
    _, controls = fleet_of(*made)
    connections = run(every_connection(controls[-1], limit=limit))
    assert max(map(len, connections)) <= limit
    assert flat(connections) == sorted(
        (peer.number, "abcd"[number]) for number, own in enumerate(made) for peer in own
    )
    users = run(every_user(controls[-1], limit=limit))
    assert max(map(len, users)) <= limit
    counts = Counter(user for own in nodes for _, user, _ in own if user is not None)
    assert [(row.user, row.connections) for row in flat(users)] == sorted(counts.items())
    rooms = run(every_room(controls[-1], limit=limit))
    assert max(map(len, rooms)) <= limit
    members = Counter(room for own in nodes for _, _, there in own for room in there)
    assert [(row.name, row.members) for row in flat(rooms)] == sorted(members.items())
    for row in flat(users) + flat(rooms):
        count = row.connections if isinstance(row, UserRow) else row.members
        assert sum(row.nodes.values()) == count > 0


def test_connections_of_a_fleet_say_their_node_and_meet_what_was_asked() -> None:
    _, (one, two) = fleet_of(
        [Peer(1, "ann", rooms=("r",)), Peer(2, "bob")],
        [Peer(1, "ann", address="192.0.2.9"), Peer(5, "ann", waits=True), Peer(7, "cid")],
    )

    def listed(control: Control, **query: Any) -> list[tuple[int, Any]]:
        page = run(control.connections(ConnectionsQuery(scope="fleet", **query)))
        return [(row.number, row.node) for row in page.connections]

    for control in (one, two):
        assert listed(control, user="ann") == [(1, "a"), (1, "b")]
        assert listed(control, room="r") == [(1, "a")]
        assert listed(control, ip="192.0.2.9") == [(1, "b")]
        assert listed(control, after="1") == [(2, "a"), (7, "b")]
        assert listed(control, after="1:a") == [(1, "b"), (2, "a"), (7, "b")]
    page = run(one.connections(ConnectionsQuery(user="ann")))
    assert [row.node for row in page.connections] == [UNSET]
    assert page.complete is UNSET


@pytest.mark.parametrize("after", ["", "-1", "x", "1:", "1:\n", "9" * 19, "9" * 20, "1 ", "1:é"])
@pytest.mark.parametrize("scope", ["node", "fleet"])
def test_connections_behind_what_is_no_place_are_refused(after: str, scope: Any) -> None:
    with pytest.raises(UsageError, match=r"^after: .* is not a whole number from 0 to 92"):
        ConnectionsQuery(after=after, scope=scope)


def test_a_place_of_the_fleet_is_none_of_a_node() -> None:
    with pytest.raises(UsageError, match=r'^after: "1:a" is not a whole number'):
        ConnectionsQuery(after="1:a")


def test_users_of_several_nodes_are_one_and_count_once() -> None:
    _, (one, _) = fleet_of(
        [Peer(1, "ann"), Peer(2, "ann"), Peer(3, "bob")], [Peer(1, "ann"), Peer(2, "cid")]
    )
    page = run(one.users(UsersQuery(scope="fleet")))
    ann = UserRow("ann", 3, {"a": 2, "b": 1})
    assert page == UsersPage(
        [ann, UserRow("bob", 1, {"a": 1}), UserRow("cid", 1, {"b": 1})], 3, None, True
    )
    # Who is not on the page is counted on each node.
    assert run(one.users(UsersQuery(scope="fleet", search="bob"))).total == 4
    assert run(one.users(UsersQuery())) == UsersPage(
        [UserRow("ann", 2), UserRow("bob", 1)], 2, None
    )


def test_the_largest_rooms_are_counted_on_all_nodes() -> None:
    def members(**rooms: int) -> list[Peer]:
        names = [name for name, count in rooms.items() for _ in range(count)]
        return [Peer(number, rooms=(name,)) for number, name in enumerate(names, 1)]

    _, (one, _) = fleet_of(members(r=5, s=2), members(t=4, u=3, r=2))
    page = run(one.rooms(RoomsQuery(limit=2, scope="fleet")))
    # On the second node r is none of the two largest, which are all that it says at first.
    r, t = RoomRow("r", 7, nodes={"a": 5, "b": 2}), RoomRow("t", 4, nodes={"b": 4})
    assert page == RoomsPage([r, t], 4, None, True)
    named = run(one.rooms(RoomsQuery(name="r", scope="fleet")))
    assert named == RoomsPage([r], 4, None, True)
    assert run(one.rooms(RoomsQuery(name="x", scope="fleet"))).rooms == []


def test_a_room_of_a_fleet_shows_the_history_of_the_node_that_keeps_most() -> None:
    _, (one, two) = fleet_of([Peer(1, rooms=("r",))], [])
    for control, count in ((one, 1), (two, 3)):
        for offset in range(1, count + 1):
            said = Publication("r", b"1", epoch="e", offset=offset)
            control._node.history.add(said, 10, 60.0, 0.0)
    (row,) = run(one.rooms(RoomsQuery(name="r", scope="fleet"))).rooms
    assert row.nodes == {"a": 1}
    assert row.history is not None
    assert row.history.messages == 3
    _, (alone, _) = fleet_of([], [])
    alone._node.history.add(Publication("r", b"1", epoch="e", offset=1), 10, 60.0, 0.0)
    (row,) = run(alone.rooms(RoomsQuery(name="r", scope="fleet"))).rooms
    assert (row.members, row.nodes) == (0, {})


def test_a_node_that_does_not_answer_makes_a_list_incomplete() -> None:
    wire, (one, _) = fleet_of([Peer(1, "ann", rooms=("r",))], [Peer(1, "bob", rooms=("s",))])
    wire.away = {"b"}
    connections = run(one.connections(ConnectionsQuery(scope="fleet")))
    users = run(one.users(UsersQuery(scope="fleet")))
    rooms = [run(one.rooms(RoomsQuery(scope="fleet", after=after))) for after in (None, "")]
    pages: list[Any] = [connections, users, *rooms]
    assert [row.node for row in connections.connections] == ["a"]
    assert [row.user for row in users.users] == ["ann"]
    assert [[row.name for row in page.rooms] for page in rooms] == [["r"], ["r"]]
    assert not any(page.complete for page in pages)


@pytest.mark.parametrize(
    ("backplane", "complete"),
    [(None, True), (SimpleNamespace(orders=None, revocations=None), False)],
)
def test_a_node_that_cannot_ask_others_lists_its_own(backplane: Any, complete: bool) -> None:
    control = node_of(None, "a", [Peer(1, "ann", rooms=("r",))], backplane)
    connections = run(control.connections(ConnectionsQuery(scope="fleet")))
    assert [(row.number, row.node) for row in connections.connections] == [(1, "a")]
    users = run(control.users(UsersQuery(scope="fleet")))
    assert users == UsersPage([UserRow("ann", 1, {"a": 1})], 1, None, complete)
    rooms = run(control.rooms(RoomsQuery(scope="fleet")))
    assert rooms == RoomsPage([RoomRow("r", 1, nodes={"a": 1})], 1, None, complete)
    assert connections.complete is complete


def test_answers_of_nodes_and_merged_pages_are_bounded_in_bytes() -> None:
    def crowd(letter: str) -> list[Peer]:
        names = [f"{letter}{number:04}" + "é" * 250 for number in range(1500)]
        return [Peer(number, name, rooms=(name,)) for number, name in enumerate(names, 1)]

    wire, (one, *_) = fleet_of(crowd("a"), crowd("b"), crowd("a"))
    users = run(every_user(one, limit=1000))
    rooms = run(every_room(one, limit=1000))
    assert [row.user for row in flat(users)] == [row.name for row in flat(rooms)]
    assert len({row.user for row in flat(users)}) == len(flat(users)) == 3000
    assert sum(map(len, run(every_connection(one, limit=1000)))) == 4500
    assert max(wire.sizes) < 70_000
    assert len(run(one.rooms(RoomsQuery(scope="fleet", limit=1000))).rooms) > 100
    assert max(wire.sizes) < 300_000
    for page in users + rooms:
        assert len(encode(page)) < 300_000


def test_a_list_of_many_nodes_lets_others_have_their_turn() -> None:
    async def main() -> None:
        _, controls = fleet_of(*([Peer(1, "ann")] for _ in range(6)))
        assert await turns_during(controls[0].users(UsersQuery(scope="fleet"))) >= 6

    run(main())

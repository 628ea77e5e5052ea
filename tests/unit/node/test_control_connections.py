"""Control: the list of connections, and the end of some of them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from msgspec.json import encode

from tests.support.aio import run, turns_during
from tests.support.clients import run_guarded, until
from tests.unit.node.control_world import Peer, World, control_of
from tidegate.core.codes import KICKED
from tidegate.errors import UsageError
from tidegate.node.control import (
    ConnectionRow,
    ConnectionsPage,
    ConnectionsQuery,
    Disconnected,
    Selector,
)


def page(peers: list[Peer], **query: Any) -> ConnectionsPage:
    return run(control_of(peers).connections(ConnectionsQuery(**query)))


def listed(peers: list[Peer], **query: Any) -> list[int]:
    return [row.number for row in page(peers, **query).connections]


# The list.


def test_connections_shows_what_is_known_of_each() -> None:
    now = time.monotonic()
    peer = Peer(
        7,
        "alice",
        "free",
        "2001:db8::1",
        ("a", "b"),
        opened_at=now - 60,
        last_active=now - 5,
        buffered=12,
    )
    (row,) = page([peer]).connections
    assert 60 <= row.age < 65
    assert 5 <= row.idle < 10
    assert row == ConnectionRow(
        id="n-7",
        number=7,
        user="alice",
        tier="free",
        address="2001:db8::1",
        transport="websocket",
        rooms=("a", "b"),
        room_count=2,
        age=row.age,
        idle=row.idle,
        buffered=12,
    )


def test_connections_in_pages_covers_everything_once() -> None:
    peers = [Peer(number) for number in (9, 2, 30, 4, 11, 25, 1)]
    seen: list[list[int]] = []
    after = "0"
    while True:
        found = page(peers, limit=3, after=after)
        seen.append([row.number for row in found.connections])
        if found.next is None:
            break
        # What comes or goes between two pages moves nothing else.
        peers = [peer for peer in peers if peer.number != 9] + [Peer(99)]
        after = str(found.next)
    assert seen == [[1, 2, 4], [11, 25, 30], [99, 99]]


@pytest.mark.parametrize(("count", "rows", "more"), [(100, 100, None), (101, 100, 100)])
def test_connections_without_a_limit_is_100(count: int, rows: int, more: int | None) -> None:
    found = page([Peer(number) for number in range(1, count + 1)])
    assert (len(found.connections), found.next) == (rows, more)


def test_connections_with_long_room_names_ends_a_page_early() -> None:
    rooms = tuple(f"{number:02}" + "é" * 126 for number in range(100))  # 12,800 characters
    peers = [Peer(number, rooms=rooms) for number in range(1, 101)]
    seen: list[int] = []
    after = "0"
    while True:
        found = page(peers, limit=1000, after=after)
        assert 1 <= len(found.connections) < 30
        assert len(encode(found)) < 300_000
        seen += [row.number for row in found.connections]
        if found.next is None:
            break
        after = str(found.next)
    assert seen == list(range(1, 101))


def test_connections_with_very_many_rooms_shows_the_first() -> None:
    rooms = tuple(f"{number:05}" + "\U0001f600" * 123 for number in range(10_000))
    found = page([Peer(1, rooms=rooms), Peer(2)])
    row, other = found.connections
    assert (row.room_count, row.rooms) == (10_000, rooms[:128])
    assert (other.room_count, other.rooms) == (0, ())
    assert len(encode(found)) < 300_000


def test_connections_leaves_out_those_that_have_ended_or_wait() -> None:
    peers = [Peer(1), Peer(2, closed=True), Peer(3, waits=True), Peer(4)]
    assert listed(peers) == [1, 4]


def test_connections_with_criteria_lists_those_that_meet_all() -> None:
    peers = [
        Peer(1, "alice", address="192.0.2.1"),
        Peer(2, "alice", address="2001:db8::1", rooms=("a b",)),
        Peer(3, "bob", address="192.0.2.1", rooms=("a b",)),
        Peer(4, None, address="192.0.2.1", rooms=("a b",)),
    ]
    assert listed(peers, user="alice") == [1, 2]
    assert listed(peers, ip="192.0.2.1") == [1, 3, 4]
    assert listed(peers, ip="::ffff:192.0.2.1") == [1, 3, 4]
    assert listed(peers, ip="2001:DB8:0::1") == [2]
    assert listed(peers, ip="2001:db8::/64") == [2]
    assert listed(peers, ip="2001:db8::ffff/48") == [2]
    assert listed(peers, ip="2001:db8:1::/64") == []
    assert listed(peers, ip="192.0.0.0/16") == [1, 3, 4]
    assert listed(peers, ip="192.0.0.0/24") == []
    assert listed(peers, room="a b") == [2, 3, 4]
    assert listed(peers, room="a b", user="alice") == [2]
    assert listed(peers, user="alice", ip="192.0.2.1", after="1") == []
    assert listed(peers, user="") == []
    assert listed(peers, room="other") == []


def test_connections_of_many_lets_others_have_their_turn() -> None:
    async def main() -> None:
        count = await turns_during(
            control_of([Peer(number) for number in range(5000)]).connections(
                ConnectionsQuery(user="nobody")
            )
        )
        assert count >= 5

    run(main())


# Disconnecting.


@pytest.mark.parametrize(
    ("selector", "ended"),
    [
        ({"id": "n-2"}, [2]),
        ({"id": "n-9"}, []),
        ({"user": "ann"}, [1, 2]),
        ({"ip": "192.0.2.1"}, [1, 3]),
        ({"ip": "::ffff:192.0.2.1"}, [1, 3]),
        ({"room": "lobby"}, [2, 3]),
        ({"room": "other"}, []),
        ({"user": "ann", "ip": "192.0.2.1"}, [1]),
        ({"user": "ann", "room": "lobby"}, [2]),
        ({"id": "n-1", "room": "lobby"}, []),
        ({"user": "eve"}, [5]),
    ],
)
def test_disconnect_ends_those_that_meet_all_criteria(
    selector: dict[str, str], ended: list[int]
) -> None:
    peers = [
        Peer(1, "ann", address="192.0.2.1"),
        Peer(2, "ann", address="192.0.2.2", rooms=("lobby",)),
        Peer(3, "bob", address="192.0.2.1", rooms=("lobby",)),
        Peer(4, "ann", closed=True),
        Peer(5, "eve", address="192.0.2.5", waits=True),
    ]
    done = run(control_of(peers).disconnect(Selector(**selector), "for spam"))
    assert done == Disconnected(len(ended))
    assert [peer.number for peer in peers if peer.ends] == ended
    assert all(peer.ends == [("kicked", "for spam")] for peer in peers if peer.ends)


def test_disconnect_without_a_criterion_is_refused() -> None:
    with pytest.raises(UsageError, match="give one of id, user, ip and room at least"):
        Selector()


def test_disconnect_by_something_that_is_no_address_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r'ip: "192\.0\.2\.1:80" is neither an IP address nor a network'
    ):
        Selector(ip="192.0.2.1:80")


def test_disconnect_of_many_ends_256_in_a_turn() -> None:
    class Counting(Peer):
        in_turn = 0
        most = 0

        def end(self, reason: Any, retry_after: float | None = None, detail: str = "") -> None:
            super().end(reason, retry_after, detail)
            Counting.in_turn += 1
            Counting.most = max(Counting.most, Counting.in_turn)

    async def main() -> None:
        peers: list[Peer] = [Counting(number, "ann") for number in range(1000)]
        work = asyncio.create_task(control_of(peers).disconnect(Selector(user="ann")))
        while not work.done():
            Counting.in_turn = 0
            await asyncio.sleep(0)
        assert work.result() == Disconnected(1000)
        assert Counting.most == 256

    run(main())


def test_disconnect_leaves_out_what_ends_on_the_way() -> None:
    async def main() -> None:
        peers = [Peer(number, "ann") for number in range(300)]
        work = asyncio.create_task(control_of(peers).disconnect(Selector(user="ann")))
        await asyncio.sleep(0)
        peers[299].closed = True
        assert await work == Disconnected(299)
        assert peers[299].ends == []

    run(main())


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ({"may_return": True}, 4009, '{"error":"disconnected","retryAfter":5,"detail":"moved"}'),
        ({"code": 4321}, 4321, "moved"),
        ({"code": 1000}, 1000, "moved"),
    ],
)
def test_disconnect_says_whether_clients_may_come_back(
    how: dict[str, Any], code: int, text: str
) -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.open("ann")
            done = await world.control.disconnect(Selector(user="ann"), "moved", **how)
            assert done == Disconnected(1)
            assert await ann.closed() == (code, text)
            await world.until_open(0)
            counted = "disconnected" if "may_return" in how else "kicked"
            assert world.control.snapshot().disconnections[counted] == 1

    run_guarded(main())


@pytest.mark.parametrize(
    "how", [{"code": 1006}, {"code": 1012}, {"code": 2999}, {"code": 5000}, {"code": -1}]
)
def test_disconnect_with_a_code_of_others_is_refused(how: dict[str, Any]) -> None:
    both: list[dict[str, Any]] = [{}, {"may_return": True}]
    for more in both:
        with pytest.raises(UsageError, match="code: must be 1000 or 3000 to 4999"):
            run(control_of([]).disconnect(Selector(user="ann"), **how, **more))


def test_disconnect_closes_with_the_reason_and_not_to_come_back() -> None:
    async def main() -> None:
        async with World() as world:
            ann = await world.open("ann", room="lobby")
            await world.open("bob")
            assert await world.control.disconnect(Selector(user="ann")) == Disconnected(1)
            code, text = await ann.closed()
            assert code == KICKED.code == 4500
            assert json.loads(text) == {"error": "kicked", "retryAfter": None}
            await world.until_open(1)
            assert world.control.snapshot().disconnections["kicked"] == 1
            found = await world.control.connections(ConnectionsQuery())
            assert [row.user for row in found.connections] == ["bob"]

    run_guarded(main())


def test_disconnect_ends_a_client_that_waits() -> None:
    async def main() -> None:
        async with World(limits={"connections": 1}, waiting_room={"enabled": True}) as world:
            await world.open("ann")
            bob = await world.knock("bob")
            await until(lambda: sum(1 for _ in world.node.connections) == 2)
            assert await world.control.disconnect(Selector(user="bob")) == Disconnected(1)
            assert (await bob.response()).status == 101
            while (frame := await bob.frame()).opcode != 8:
                assert b"queue_status" in frame.payload
            assert frame.code == KICKED.code
            await bob.send(b"\x88\x80\x00\x00\x00\x00")
            await until(lambda: len(world.node.waiting) == 0)
            assert world.node.tracker.open == 1

    run_guarded(main())

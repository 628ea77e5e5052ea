"""What every broker does, over a real server: order, histories, and links that are down."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import Raw

from tests.integration.backplane.nodes import Node, all_got, asked, nodes, publish_on, until
from tests.support.aio import in_loop
from tests.support.between import Server
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY
from tidegate.core.messaging.history import Page, Position
from tidegate.core.messaging.publication import Direct, Publication


@in_loop
async def test_publication_reaches_every_node_with_members(server: Server) -> None:
    async with nodes(server.url, 3) as (one, two, three):
        assert await one.join("r") is None
        assert await two.join("r") is None
        sent = Publication("r", Raw(b"[1]"), "ann", "c1", echo=False, packed=Raw(b"\x91\x01"))
        assert await asked(three.broker.publish, sent) is None
        await until(lambda: one.got and two.got)
        for got in (*one.got, *two.got):
            assert (got.room, bytes(got.data), got.sender) == ("r", b"[1]", "ann")
            assert (got.connection, got.echo, got.binary) == ("c1", False, False)
            assert isinstance(got.data, Raw)
            assert bytes(got.packed) == b"\x91\x01"
        assert three.got == []
        two.broker.unsubscribe("r")
        assert await three.publish("r", 2) is None
        await until(lambda: len(one.got) == 2)
        assert len(two.got) == 1


@in_loop
async def test_publications_of_many_have_one_order_on_all_nodes(server: Server) -> None:
    async with nodes(server.url, 3) as made:
        for node in made:
            await node.join("kept-order")
            await node.join("order")
        for room in ("kept-order", "order"):
            faults = await asyncio.gather(
                *(node.publish(room, n * 3 + i) for n in range(100) for i, node in enumerate(made))
            )
            assert set(faults) == {None}
            await until(partial(all_got, made, room, 300))
            first = made[0].data(room)
            assert sorted(first) == list(range(300))
            assert made[1].data(room) == made[2].data(room) == first
        kept = [one.offset for one in made[1].got if one.room == "kept-order"]
        assert kept == list(range(1, 301))


@in_loop
async def test_left_and_joined_again_at_once_gets_what_is_published_after(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        for number in range(50):
            joined = asyncio.ensure_future(one.join("swing"))
            await joined
            one.broker.unsubscribe("swing")
            assert await one.join("swing") is None
            assert await two.publish("swing", number) is None
            await until(lambda: one.data("swing")[-1:] == [number])  # noqa: B023 - it is awaited
            one.broker.unsubscribe("swing")


@in_loop
async def test_history_has_what_was_published(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        empty = await one.history("kept", None)
        assert isinstance(empty, Page)
        assert (empty.publications, empty.position.offset) == ([], 0)
        assert await one.history("kept", empty.position) == Page([], empty.position, True)
        for number in range(1, 11):
            await two.publish("kept", number, sender="bob")
        page = await one.history("kept", empty.position)
        assert isinstance(page, Page)
        assert page.recovered
        assert [int(each.data) for each in page.publications] == list(range(1, 11))
        assert {(each.sender, each.epoch) for each in page.publications} == {
            ("bob", empty.position.epoch)
        }
        assert page.position == Position(empty.position.epoch, 10)
        some = await one.history("kept", Position(page.position.epoch, 4), 3)
        assert isinstance(some, Page)
        assert [each.offset for each in some.publications] == [5, 6, 7]
        assert (some.position.offset, some.recovered) == (10, True)
        last = await one.history("kept", None, 2)
        assert isinstance(last, Page)
        assert [each.offset for each in last.publications] == [9, 10]
        for wrong in (Position("other", 3), Position(page.position.epoch, 11)):
            assert await one.history("kept", wrong) == Page([], page.position, False)
        assert await one.history("plain", None) is NO_HISTORY


@in_loop
async def test_history_has_no_more_than_its_rule_keeps(server: Server) -> None:
    async with nodes(server.url, history_size=5, pattern="small") as (one, two):
        begin = await one.history("small", None)
        assert isinstance(begin, Page)
        for number in range(1, 9):
            await two.publish("small", number)
        assert await one.history("small", begin.position) == Page(
            [], Position(begin.position.epoch, 8), False
        )
        page = await one.history("small", Position(begin.position.epoch, 3))
        assert isinstance(page, Page)
        assert [each.offset for each in page.publications] == [4, 5, 6, 7, 8]


@in_loop
async def test_messages_are_gone_after_their_time(server: Server) -> None:
    async with nodes(server.url, pattern="brief", history_ttl=1) as (one, two):
        await two.publish("brief", 1)
        page = await one.history("brief", None)
        assert isinstance(page, Page)
        assert len(page.publications) == 1
        gone = page
        async with asyncio.timeout(20):
            while gone.publications:
                await asyncio.sleep(0.05)
                found = await one.history("brief", None)
                assert isinstance(found, Page)
                gone = found
        assert gone.position == page.position, "the offset is remembered"
        assert await one.history("brief", Position(page.position.epoch, 0)) == Page(
            [], page.position, False
        )


@in_loop
async def test_directs_and_broadcasts_reach_every_node_and_are_counted(
    server: Server,
) -> None:
    async with nodes(server.url) as (one, two):
        direct = Direct("ann", b"hello", "bob", "c7", True)
        assert await asked(one.broker.send, direct) == 4
        assert await asked(two.broker.to_all, Publication("", b"all")) == 6
        await until(lambda: two.directs and one.all)
        for got in (*one.directs, *two.directs):
            assert (got.user, got.data, got.sender) == ("ann", b"hello", "bob")
            assert (got.connection, got.binary) == ("c7", True)
        assert [each.data for each in (*one.all, *two.all)] == [b"all", b"all"]


@in_loop
async def test_link_that_was_cut_catches_up_from_the_history(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        await one.join("kept-cut")
        await one.join("plain-cut")
        for number in range(1, 4):
            await two.publish("kept-cut", number)
        await until(lambda: len(one.got) == 3)
        # Nobody has the link that subscribes any more, while others publish.
        ending = asyncio.ensure_future(publish_on(two, "kept-cut", range(4, 60)))
        for _ in range(3):
            server.cut("node-0")
            await asyncio.sleep(0.05)
        await ending
        await until(lambda: len(one.data("kept-cut")) == 59)
        assert one.data("kept-cut") == list(range(1, 60))
        assert [each.offset for each in one.got] == list(range(1, 60))
        await until(lambda: "plain-cut" in one.gaps)
        assert "kept-cut" not in one.gaps


@in_loop
async def test_room_without_messages_so_far_misses_nothing_after_a_cut(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        await two.publish("kept-quiet", 1)
        await one.join("kept-quiet")
        await asyncio.sleep(0.1)  # it finds out where the room is
        server.cut("node-0")
        await two.publish("kept-quiet", 2)
        await until(lambda: one.data("kept-quiet") == [2])
        assert one.gaps == []


@in_loop
async def test_room_that_has_too_much_to_send_gets_the_rest_later(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        await one.join("kept-full")
        await one.join("full")
        for number in range(1, 31):
            if number == 10:
                one.full = {"kept-full", "full"}
            if number == 20:
                one.full = set()
            await two.publish("kept-full", number)
            await two.publish("full", number)
        await until(lambda: len(one.data("kept-full")) == 30)
        assert one.data("kept-full") == list(range(1, 31))
        await until(lambda: 30 in one.data("full"))
        assert set(one.gaps) == {"full"}


@in_loop
async def test_server_that_is_killed_and_comes_back_empty_is_told_to_all(own: Server) -> None:
    async with nodes(own.url) as (one, two):
        for node in (one, two):
            await node.join("kept")
            await node.join("plain")
        await one.publish("kept", 1)
        await until(lambda: one.got and two.got)
        before = await one.history("kept", None)
        assert isinstance(before, Page)
        own.kill()
        own.forget()
        await until(lambda: not one.broker.up and not two.broker.up)
        assert await one.publish("kept", 2) is BACKPLANE_DOWN
        assert await one.publish("plain", 2) is BACKPLANE_DOWN
        assert await one.join("another") is BACKPLANE_DOWN
        assert await one.history("kept", None) is BACKPLANE_DOWN
        assert await asked(one.broker.send, Direct("ann", b"x")) == 0
        own.start()
        await until(lambda: one.broker.up and two.broker.up)
        await until(lambda: sorted(one.gaps) == sorted(two.gaps) == ["kept", "plain"])
        assert await one.publish("kept", 3) is None
        await until(lambda: one.data("kept") == two.data("kept") == [1, 3])
        after = await two.history("kept", before.position)
        assert isinstance(after, Page)
        assert not after.recovered
        assert after.position.epoch != before.position.epoch


@in_loop
async def test_server_that_is_frozen_is_given_up_in_time(own: Server) -> None:
    async with nodes(own.url, timeout=0.5) as (one, two):
        await one.join("kept")
        own.freeze()
        assert await two.publish("kept", 1) is BACKPLANE_DOWN
        await until(lambda: not one.broker.up and not two.broker.up)
        own.thaw()
        await until(lambda: one.broker.up and two.broker.up)
        assert await two.publish("kept", 2) is None
        await until(lambda: 2 in one.data("kept"))


@in_loop
async def test_names_of_rooms_may_be_anything(server: Server) -> None:
    async with nodes(server.url) as (one, two):
        rooms = ["kept}", "{", "}", "kept{x}y", "\u00e9 \u4e16", "kept:a:b", "*", "all", "a" * 200]
        for room in rooms:
            assert await one.join(room) is None
            assert await two.publish(room, 7) is None
        await until(lambda: len(one.got) == len(rooms))
        assert [each.room for each in one.got] == rooms


@in_loop
async def test_fleets_of_other_prefixes_know_nothing_of_each_other(server: Server) -> None:
    other = Node(server.url, "o", prefix="other")
    async with nodes(server.url, 1) as (one,):
        await other.broker.start(other)
        await one.join("r")
        await other.join("r")
        await one.publish("r", 1)
        await until(lambda: one.got)
        await other.publish("r", 2)
        await until(lambda: other.got)
        assert (one.data("r"), other.data("r")) == ([1], [2])
        await other.broker.stop()

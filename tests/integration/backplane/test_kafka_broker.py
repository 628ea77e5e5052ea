"""Kafka between nodes: rooms and messages over a topic, and a server that is killed or frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.conftest import Start
from tests.integration.backplane.nodes import Node, all_got, asked, nodes, until
from tests.support import aio
from tests.support.aio import in_loop
from tests.support.kafka import Kafka, kafka
from tests.support.native import NativeClient
from tests.support.raw import Raw as RawClient
from tests.support.tokens import SECRET
from tests.support.workers import crew
from tidegate.api import ServerApi
from tidegate.core.codes import BACKPLANE_DOWN, NO_HISTORY, TOO_BIG
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.core.settings import BackplaneSettings
from tidegate.doctor.checks import examine
from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Load
from tidegate.doctor.kafka import look_at_backplane
from tidegate.errors import BackplaneError

PLAIN: dict[str, Any] = {"pattern": "none", "history_size": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@in_loop
async def test_publication_reaches_every_node_with_members(server: Kafka) -> None:
    async with nodes(server.url, 3, **PLAIN) as (one, two, three):
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
        assert one.broker.traffic.received == 2
        assert await one.history("r", None) is NO_HISTORY


@in_loop
async def test_publications_of_many_have_one_order_on_all_nodes(server: Kafka) -> None:
    async with nodes(server.url, 3, **PLAIN) as made:
        for node in made:
            await node.join("order")
        faults = await asyncio.gather(
            *(node.publish("order", n * 3 + i) for n in range(100) for i, node in enumerate(made))
        )
        assert set(faults) == {None}
        await until(partial(all_got, made, "order", 300))
        first = made[0].data("order")
        assert sorted(first) == list(range(300))
        assert made[1].data("order") == made[2].data("order") == first
        for number in range(3):
            own = [one for one in first if one % 3 == number]
            assert own == sorted(own)


@in_loop
async def test_left_and_joined_again_at_once_gets_what_is_published_after(server: Kafka) -> None:
    async with nodes(server.url, **PLAIN) as (one, two):
        for number in range(30):
            assert await one.join("swing") is None
            one.broker.unsubscribe("swing")
            assert await one.join("swing") is None
            assert await two.publish("swing", number) is None
            await until(lambda: one.data("swing")[-1:] == [number])  # noqa: B023 - it is awaited
            one.broker.unsubscribe("swing")


@in_loop
async def test_directs_and_broadcasts_reach_every_node(server: Kafka) -> None:
    async with nodes(server.url, **PLAIN) as (one, two):
        direct = Direct("ann", b"hello", "bob", "c7", True)
        assert await asked(one.broker.send, direct) == 2
        assert await asked(two.broker.to_all, Publication("", b"all")) == 3
        await until(lambda: two.directs and one.all)
        for got in (*one.directs, *two.directs):
            assert (got.user, got.data, got.sender) == ("ann", b"hello", "bob")
            assert (got.connection, got.binary) == ("c7", True)
        assert [each.data for each in (*one.all, *two.all)] == [b"all", b"all"]


@in_loop
async def test_names_of_rooms_may_be_anything(server: Kafka) -> None:
    async with nodes(server.url, **PLAIN) as (one, two):
        rooms = ["{", "a b", "\u00e9 \u4e16", "user:ann", "all:", "*", "..", "\ud800", "a" * 200]
        for room in rooms:
            assert await one.join(room) is None
            assert await two.publish(room, 7) is None
        await until(lambda: len(one.got) == len(rooms))
        assert sorted(each.room for each in one.got) == sorted(rooms)
        assert one.directs == one.all == []


@in_loop
async def test_message_that_no_broker_takes_is_refused_alone(server: Kafka) -> None:
    async with nodes(server.url, **PLAIN) as (one, two):
        await one.join("big")
        large, larger = (Publication("big", b"x" * size) for size in (990_000, 1_100_000))
        assert await asked(two.broker.publish, larger) is TOO_BIG
        assert await asked(two.broker.publish, large) is None
        await until(lambda: len(one.got) == 1)


@in_loop
async def test_fleets_of_other_prefixes_know_nothing_of_each_other(server: Kafka) -> None:
    other = Node(server.url, "o", prefix="other", **PLAIN)
    async with nodes(server.url, 1, **PLAIN) as (one,):
        await other.broker.start(other)
        await one.join("r")
        await other.join("r")
        await one.publish("r", 1)
        await until(lambda: one.got)
        await other.publish("r", 2)
        await until(lambda: other.got)
        assert (one.data("r"), other.data("r")) == ([1], [2])
        await other.broker.stop()


@in_loop
async def test_server_that_is_not_there_is_told_at_the_start() -> None:
    node = Node("kafka://ann:very-secret@127.0.0.1:1", "n", 0.5, **PLAIN)
    with pytest.raises(BackplaneError) as failed:
        await node.broker.start(node)
    assert str(failed.value).startswith("backplane.url: ")
    assert "Connect call failed" in str(failed.value)
    assert "very-secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("user", "sasl"),
    [("ann", ""), ("ann", "PLAIN"), ("bob", "SCRAM-SHA-256"), ("cid", "SCRAM-SHA-512")],
)
@in_loop
async def test_login_over_tls_and_a_wrong_password(server: Kafka, user: str, sasl: str) -> None:
    async with nodes(server.login(user, "very-secret", sasl), **PLAIN) as (one, two):
        await one.join("tls")
        assert await two.publish("tls", 1) is None
        await until(lambda: one.data("tls") == [1])
    node = Node(server.login(user, "not-the-one", sasl), "n", **PLAIN)
    with pytest.raises(BackplaneError, match=r"backplane\.url: .*uthentication") as failed:
        await node.broker.start(node)
    assert "not-the-one" not in str(failed.value)


@pytest.mark.parametrize(("user", "sasl"), [("ann", "SCRAM-SHA-256"), ("bob", "SCRAM-SHA-512")])
@in_loop
async def test_login_by_a_mechanism_that_does_not_know_the_user_is_an_error(
    server: Kafka, user: str, sasl: str
) -> None:
    node = Node(server.login(user, "very-secret", sasl), "n", **PLAIN)
    with pytest.raises(BackplaneError, match=r"backplane\.url: .*uthentication") as failed:
        await node.broker.start(node)
    assert "very-secret" not in str(failed.value)


def test_doctor_says_whether_it_can_be_reached(server: Kafka) -> None:
    seen = look_at_backplane(server.login("ann", "very-secret"), BackplaneSettings())
    assert (seen.server, seen.error) == ("kafka", "")
    assert seen.url == f"kafka+tls://127.0.0.1:{server.secure}"
    assert seen.round_trip is not None
    assert "backplane" not in "".join(examine(Facts(backplane=seen), Load(1000)))
    wrong = look_at_backplane(server.login("ann", "not-the-one"), BackplaneSettings())
    assert "backplane-reach" in examine(Facts(backplane=wrong), Load(1000))
    assert "not-the-one" not in repr(wrong)


@in_loop
async def test_topic_that_cannot_be_made_is_told_at_the_start(server: Kafka) -> None:
    node = Node(server.url, "n", prefix="three", replicas=3, **PLAIN)
    with pytest.raises(BackplaneError, match=r"the topic three\.messages cannot be made: .*repl"):
        await node.broker.start(node)


@in_loop
async def test_what_retention_has_taken_is_told_to_members(server: Kafka) -> None:
    async with nodes(server.url, **PLAIN) as (one, two):
        await one.join("a")
        await two.publish("a", 1)
        await until(lambda: one.got)
        link = one.broker._link
        for where in link._next:
            link._consumer.seek(where, 1 << 40)
        await until(lambda: one.gaps and one.missing)
        assert set(one.gaps) == {"a"}
        await two.publish("a", 2)
        await until(lambda: one.data("a")[-1:] == [2])
        assert two.gaps == []


def test_two_servers_share_rooms_and_messages(serve: Start, server: Kafka) -> None:
    settings: dict[str, Any] = {
        "auth": {"secret": SECRET},
        "limits": {"per_ip": 1000},
        "backplane": {"url": server.url, "prefix": "pair"},
    }
    servers = serve(settings), serve(settings)

    async def run() -> None:
        ann = await NativeClient.at(servers[0].url, "ann")
        bob = await NativeClient.at(servers[1].url, "bob")
        for client in (ann, bob):
            assert (await client.ask("join", room="r"))["type"] == "ack"
        assert (await ann.ask("room_message", room="r", data=1, echo=False))["type"] == "ack"
        assert (await bob.ask("room_message", room="r", data=2))["type"] == "ack"
        for client, data in ((ann, [2]), (bob, [1, 2])):
            await client.until(lambda one: one.get("data") == 2)
            assert [one["data"] for one in client.of("room_message", room="r")] == data
        await ann.send("direct_message", user="bob", data={"to": "bob"})
        assert (await bob.until(lambda one: one["type"] == "direct_message"))["from"] == "ann"
        for client in (ann, bob):
            await client.close()

    aio.run(run())
    for one in servers:
        page = one.get("/nodes")[1]
        assert (len(page["nodes"]), page["complete"]) == (1, False)
        assert one.get("/stats?scope=fleet")[1]["complete"] is False
        shown = page["backplane"]
        assert (shown["up"], shown["reconnects"]) == (True, 0)
        assert shown["received"] >= 3


def test_workers_are_all_asked_though_none_can_ask_the_others(
    server: Kafka, tmp_path: Path
) -> None:
    backplane = {"url": server.url, "prefix": "crew"}
    with crew(tmp_path, {"backplane": backplane}) as them, ExitStack() as open_ones:
        clients = [open_ones.enter_context(RawClient(them.server.port)).open() for _ in range(20)]
        them.server.wait_open(len(clients))
        page = them.server.get("/nodes")[1]
        nodes = {row["id"] for row in page["nodes"]}
        assert (len(nodes), page["complete"], page["connections"]) == (2, False, len(clients))
        assert page["backplane"]["up"]
        stats = them.server.get("/stats?scope=fleet")[1]
        assert (stats["nodes"], stats["complete"]) == (2, False)
        page = them.server.get("/connections?scope=fleet")[1]
        assert {row["node"] for row in page["connections"]} == nodes
        assert (len(page["connections"]), page["complete"]) == (len(clients), False)
        with ServerApi(f"http://127.0.0.1:{them.server.admin_port}") as api:
            assert api.disconnect(ip="127.0.0.1") == len(clients)
        them.server.wait_open(0)


@in_loop
async def test_killed_server_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with kafka(tmp_path) as own:
        async with nodes(own.url, timeout=1, **PLAIN) as (one, two):
            for node in (one, two):
                await node.join("r")
            taken: list[int] = []
            faults: list[object] = []
            ended = asyncio.Event()

            async def publish() -> None:
                number = 0
                while not ended.is_set():
                    number += 1
                    fault = await two.publish("r", number)
                    if fault is None:
                        taken.append(number)
                    else:
                        faults.append(fault)
                    await asyncio.sleep(0.002)

            publishing = asyncio.ensure_future(publish())
            await until(lambda: len(taken) > 100)
            own.kill()
            await until(lambda: not one.broker.up and not two.broker.up)
            assert await one.join("another") is BACKPLANE_DOWN
            assert await one.publish("r", -1) is BACKPLANE_DOWN
            assert await asked(one.broker.send, Direct("ann", b"x")) == 0
            await asyncio.to_thread(own.start)
            before = len(taken)
            await until(lambda: one.broker.up and two.broker.up and len(taken) > before + 100)
            ended.set()
            await publishing
            last = taken[-1]
            await until(lambda: last in one.data("r") and last in two.data("r"))
            for node in (one, two):
                got = [number for number in node.data("r") if number > 0]
                assert got == sorted(set(got)), "once, and in order"
                assert set(taken) <= set(got)
                assert node.gaps == []
            assert set(faults) == {BACKPLANE_DOWN}

            # What was kept is gone, so the members are told.
            own.kill()
            own.forget()
            await until(lambda: not one.broker.up and not two.broker.up)
            await asyncio.to_thread(own.start)
            await until(lambda: one.broker.up and two.broker.up)
            await until(lambda: one.gaps == two.gaps == ["r"])
            assert one.missing
            assert await one.publish("r", 0) is None
            await until(lambda: 0 in one.data("r") and 0 in two.data("r"))


@in_loop
async def test_server_that_is_frozen_is_given_up_and_read_on_from(server: Kafka) -> None:
    async with nodes(server.url, timeout=0.5, **PLAIN) as (one, two):
        await one.join("frozen")
        server.freeze()
        try:
            assert await two.publish("frozen", 1) is BACKPLANE_DOWN
            await until(lambda: not one.broker.up and not two.broker.up)
        finally:
            server.thaw()
        await until(lambda: one.broker.up and two.broker.up)
        assert await two.publish("frozen", 2) is None
        await until(lambda: 2 in one.data("frozen"))
        assert one.gaps == []
    await until(lambda: len(asyncio.all_tasks()) == 1, "nothing is left of what has ended")

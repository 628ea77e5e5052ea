"""What only NATS does: JetStream, its stream and its users."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nkeys
import pytest

from tests.integration.backplane.nodes import Node, asked, nodes, until
from tests.support.aio import in_loop
from tests.support.certificates import make_certificate
from tests.support.nats import Nats, cluster, nats
from tidegate.backplane.nats.servers import Servers
from tidegate.core.codes import BACKPLANE_DOWN, TOO_BIG
from tidegate.core.messaging.history import Page, Position
from tidegate.core.messaging.publication import Direct, Publication
from tidegate.errors import BackplaneError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """One that is there all the time."""
    with nats(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Nats]:
    """One that the test may kill."""
    with nats(tmp_path) as started:
        yield started


async def page(node: Node, room: str, since: Position | None = None) -> Page:
    found = await node.history(room, since)
    assert isinstance(found, Page)
    return found


@in_loop
async def test_server_that_is_killed_and_has_its_data_loses_nothing(own: Nats) -> None:
    async with nodes(own.url) as (one, two):
        await one.join("kept")
        await one.join("plain")
        assert await two.publish("kept", 1) is None
        before = await page(two, "kept")
        own.kill()
        await until(lambda: not one.broker.up and not two.broker.up)
        own.start()
        await until(lambda: two.broker.up)
        await until(lambda: one.gaps == ["plain"])
        await _published(two, "kept", 2)
        await until(lambda: one.data("kept") == [1, 2])
        after = await page(one, "kept", before.position)
        assert after.recovered
        assert after.position == Position(before.position.epoch, 2)
        assert one.gaps == ["plain"]


async def _published(node: Node, room: str, number: int) -> None:
    """Publish, as soon as JetStream is ready."""
    async with asyncio.timeout(20):
        while await node.publish(room, number) is not None:
            await asyncio.sleep(0.02)


@in_loop
async def test_all_that_is_acknowledged_is_delivered_once_and_in_order(own: Nats) -> None:
    acknowledged: list[int] = []

    async def publish(node: Node, first: int) -> None:
        for number in range(first, first + 40):
            if await node.publish("kept-many", number) is None:
                acknowledged.append(number)
            await asyncio.sleep(0.01)

    async with nodes(own.url, 3, history_size=10_000) as made:
        for node in made:
            await node.join("kept-many")
        work = [asyncio.ensure_future(publish(made[n % 3], n * 100)) for n in range(20)]
        await asyncio.sleep(0.15)
        own.kill()
        own.start()
        await asyncio.gather(*work)
        await until(lambda: all(node.broker.up for node in made))
        await _published(made[0], "kept-many", 99_999)
        await until(lambda: all(99_999 in node.data("kept-many") for node in made))
        first = made[0].data("kept-many")
        assert set(acknowledged) <= set(first)
        assert len(set(first)) == len(first)
        assert [one.offset for one in made[0].got] == list(range(1, len(first) + 1))
        for node in made:
            assert node.data("kept-many") == first
            assert node.gaps == []


@in_loop
async def test_server_of_a_cluster_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    ended = asyncio.Event()

    async def publish(node: Node, first: int) -> None:
        for number in range(first, first + 10_000):
            if ended.is_set():
                return
            if await node.publish("kept-many", number) is None:
                acknowledged.append(number)
            await asyncio.sleep(0.01)

    with cluster(tmp_path) as servers:
        made = [
            Node(own.url, f"node-{n}", timeout=2, replicas=3, history_size=100_000)
            for n, own in enumerate(servers)
        ]
        for node in made:
            await _started(node)
            async with asyncio.timeout(20):
                while await node.join("kept-many") is not None:  # nobody leads the stream yet
                    await asyncio.sleep(0.1)
        work = [asyncio.ensure_future(publish(made[n % 3], n * 10_000)) for n in range(9)]
        await until(lambda: len(acknowledged) > 100)
        info = await made[0].broker._link.request("$JS.API.STREAM.INFO.tidegate_kept", b"")
        leader = int(json.loads(info.data)["cluster"]["leader"][-1])
        servers[leader].kill()
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 100)
        servers[leader].start()
        await until(lambda: all(node.broker.up for node in made))
        ended.set()
        await asyncio.gather(*work)
        await _published(made[0], "kept-many", 999_999)
        await until(lambda: all(999_999 in node.data("kept-many") for node in made))
        first = made[0].data("kept-many")
        assert set(acknowledged) <= set(first)
        assert len(set(first)) == len(first)
        for node in made:
            assert node.data("kept-many") == first
            assert node.gaps == []
            await node.broker.stop()


async def _started(node: Node) -> None:
    """Start, as soon as JetStream has chosen who leads it."""
    async with asyncio.timeout(30):
        while True:
            try:
                await node.broker.start(node)
            except BackplaneError:
                await node.broker.stop()
                await asyncio.sleep(0.2)
            else:
                return


@in_loop
async def test_node_whose_start_failed_starts_again_as_the_first_time(tmp_path: Path) -> None:
    with nats(tmp_path, jetstream=False) as own:
        node = Node(own.url, "n")
        with pytest.raises(BackplaneError):
            await node.broker.start(node)
        await node.broker.stop()
        own.stop()
        config = tmp_path / "nats.conf"
        config.write_text(config.read_text().replace("jetstream: disabled", "jetstream: enabled"))
        store = json.dumps(str(tmp_path / "data"))
        config.write_text(f"jetstream {{ store_dir: {store} }}\n{config.read_text()}")
        own.start()
        await node.broker.start(node)
        await node.join("kept")
        assert await asked(node.broker.send, Direct("ann", b"1")) == 2
        own.cut("n")
        await until(lambda: not node.broker.up)
        await until(lambda: node.broker.up)
        await _published(node, "kept", 1)
        await until(lambda: node.data("kept") == [1])
        await node.broker.stop()


@in_loop
async def test_last_message_that_was_lost_between_servers_is_read(server: Nats) -> None:
    async with nodes(server.url) as (one, two):
        await one.join("kept-lost")
        assert await two.publish("kept-lost", 1) is None
        await until(lambda: one.data("kept-lost") == [1])
        # As when the server has not yet heard of the subscription.
        link, number = one.broker._link, one.broker._numbers["kept-lost"]
        link.unsubscribe(number)
        await asked(link.confirm)
        assert await two.publish("kept-lost", 2) is None
        link._send(b"SUB tidegate.room.kept-lost %d\r\n" % number)
        await asked(link.confirm)
        assert one.data("kept-lost") == [1]
        async with asyncio.timeout(20):
            while one.data("kept-lost") != [1, 2]:
                await asyncio.sleep(0.02)
        assert one.gaps == []


@in_loop
async def test_stream_that_is_removed_begins_new_epochs(own: Nats) -> None:
    async with nodes(own.url) as (one, two):
        await one.join("kept")
        await two.publish("kept", 1)
        await until(lambda: one.got)
        before = await page(one, "kept")
        await two.broker._link.request("$JS.API.STREAM.DELETE.tidegate_kept", b"")
        assert await two.publish("kept", 2) is BACKPLANE_DOWN
        await _published(two, "kept", 3)
        await until(lambda: one.data("kept") == [1, 3])
        assert one.gaps == ["kept"]
        after = await page(two, "kept", before.position)
        assert not after.recovered
        assert after.position.epoch != before.position.epoch


@in_loop
async def test_stream_that_has_gone_back_begins_a_new_epoch(own: Nats) -> None:
    async with nodes(own.url) as (one, two):
        await one.join("kept")
        for number in (1, 2, 3):
            await two.publish("kept", number)
        await until(lambda: len(one.got) == 3)
        before = await page(one, "kept")
        # As after a power failure: the last messages are gone, though they were acknowledged.
        for sequence in (4, 3):
            question = json.dumps({"seq": sequence}).encode()
            await two.broker._link.request("$JS.API.STREAM.MSG.DELETE.tidegate_kept", question)
        assert await two.publish("kept", 4) is None
        await until(lambda: one.data("kept") == [1, 2, 3, 4])
        assert one.gaps == ["kept"]
        assert not (await page(one, "kept", before.position)).recovered


@in_loop
async def test_stream_of_the_operator_keeps_what_is_its_own(own: Nats) -> None:
    config: dict[str, Any] = {
        "name": "tidegate_kept",
        "subjects": ["tidegate.kept.*"],
        "storage": "memory",
        "max_bytes": 1_000_000,
        "max_msgs_per_subject": 3,
    }
    async with nodes(own.url, 1, history_size=0) as (one,):
        created = json.dumps(config).encode()
        await one.broker._link.request("$JS.API.STREAM.CREATE.tidegate_kept", created)
    async with nodes(own.url, 1) as (one,):
        assert await one.publish("kept", 1) is None
        answer = await one.broker._link.request("$JS.API.STREAM.INFO.tidegate_kept", b"")
        found = json.loads(answer.data)["config"]
        assert (found["storage"], found["max_bytes"]) == ("memory", 1_000_000)
        assert (found["max_msgs_per_subject"], found["allow_msg_ttl"]) == (201, True)


@in_loop
async def test_room_that_is_quiet_stays_in_its_epoch(server: Nats) -> None:
    async with nodes(server.url, pattern="quiet", history_ttl=1) as (one, two):
        await one.join("quiet")
        await two.publish("quiet", 1)
        async with asyncio.timeout(20):
            while (await page(one, "quiet")).publications:
                await asyncio.sleep(0.05)
        await two.publish("quiet", 2)
        await until(lambda: one.data("quiet") == [1, 2])
        assert [each.offset for each in one.got] == [1, 2]
        assert one.gaps == []


@in_loop
async def test_many_who_ask_at_once_are_answered_by_a_few_reads(server: Nats) -> None:
    async with nodes(server.url) as (one, two):
        begin = await page(one, "kept-storm")
        for number in range(1, 101):
            await two.publish("kept-storm", number)
        since = [Position(begin.position.epoch, number) for number in range(100)]
        asks = [page(one, "kept-storm", each) for each in since] + [page(one, "kept-storm")]
        pages = await asyncio.gather(*asks)
        for each, found in zip(since, pages, strict=False):
            assert found.recovered
            assert [got.offset for got in found.publications] == list(range(each.offset + 1, 101))
        assert len(pages[-1].publications) == 100


@in_loop
async def test_names_of_rooms_are_no_wildcards(server: Nats) -> None:
    async with nodes(server.url) as (one, two):
        names = [
            "*",
            ">",
            "a.b",
            "a.*",
            "a b",
            "a\r\nPUB x 1",
            "kept*",
            "kept.>",
            "a=2Eb",
            "\ud800",
        ]
        for room in names:
            assert await one.join(room) is None
        for number, room in enumerate((*names, "a", "b", "ab")):
            assert await two.publish(room, number) is None
        await until(lambda: len(one.got) == len(names))
        assert [int(each.data) for each in sorted(one.got, key=lambda got: int(got.data))] == [
            *range(len(names))
        ]
        assert {(each.room, int(each.data)) for each in one.got} == set(
            zip(names, range(99), strict=False)
        )


@in_loop
async def test_publisher_learns_the_positions(server: Nats) -> None:
    async with nodes(server.url, 1) as (one,):
        sent = [Publication("kept-told", b"1") for _ in range(50)]
        assert set(await asyncio.gather(*(asked(one.broker.publish, each) for each in sent))) == {
            None
        }
        here = (await page(one, "kept-told")).position
        assert [(each.epoch, each.offset) for each in sent] == [
            (here.epoch, number) for number in range(1, 51)
        ]


@in_loop
async def test_message_that_the_server_does_not_take_is_too_big(server: Nats) -> None:
    async with nodes(server.url, 1) as (one,):
        await one.join("kept-big")
        await one.join("big")
        for room in ("kept-big", "big"):
            assert await asked(one.broker.publish, _big(room)) is TOO_BIG
            assert await one.publish(room, 1) is None
        await until(lambda: one.data("kept-big") == one.data("big") == [1])
        assert await asked(one.broker.send, Direct("ann", b"x" * (1 << 20))) == 0


def _big(room: str) -> Publication:
    return Publication(room, b"1" * (1 << 20))


@in_loop
async def test_what_is_no_message_is_left_out(
    server: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(server.url, 1) as (one,):
        await one.join("junk")
        await one.join("kept-junk")
        for subject in ("tidegate.room.junk", "tidegate.all", "tidegate.kept.kept-junk"):
            for data in (b"", b"x", b"\x90", b"\x93\x01\x02\x03"):
                server.publish(subject, data)
        assert await one.publish("junk", 1) is None
        assert await one.publish("kept-junk", 1) is None
        await until(lambda: one.data("junk") == one.data("kept-junk") == [1])
        assert "the backplane sent what no node sends" in caplog.text


@in_loop
async def test_histories_without_jetstream_are_an_error_at_the_start(tmp_path: Path) -> None:
    with nats(tmp_path, jetstream=False) as own:
        node = Node(own.url, "n")
        with pytest.raises(BackplaneError, match="history_size needs JetStream"):
            await node.broker.start(node)
        await node.broker.stop()
        async with nodes(own.url, 1, history_size=0) as (one,):
            await one.join("r")
            assert await one.publish("r", 1) is None
            await until(lambda: one.data("r") == [1])


@in_loop
async def test_server_that_is_not_there_is_an_error_at_the_start() -> None:
    node = Node("nats://127.0.0.1:1,127.0.0.1:2", "n", timeout=0.3)
    with pytest.raises(BackplaneError, match=r"backplane.url: .*Connect call failed"):
        await node.broker.start(node)
    await node.broker.stop()


@in_loop
async def test_another_server_of_the_url_is_used_when_one_is_not_there(server: Nats) -> None:
    async with nodes(server.url.replace("//", "//127.0.0.1:1,"), 2) as (one, two):
        await one.join("r")
        assert await two.publish("r", 1) is None
        await until(lambda: one.data("r") == [1])


@in_loop
async def test_logins_of_all_kinds_work_and_are_not_shown(tmp_path: Path) -> None:
    key = nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER))
    (tmp_path / "seed").write_bytes(bytes(key.seed))
    users = f"""
      {{ user: "ann o", password: "p@ss/word" }},
      {{ nkey: {key.public_key.decode()} }},
      {{ user: narrow, password: narrow, permissions: {{
        publish: ["tidegate.>", "$JS.API.*.*.tidegate_kept", "$JS.API.*.*.*.tidegate_kept"],
        subscribe: ["tidegate.>"] }} }},
      {{ user: few, password: few, permissions: {{
        publish: ["tidegate.>", "$JS.API.>"],
        subscribe: {{ allow: ["tidegate.>"], deny: ["tidegate.room.secret"] }} }} }},
      {{ user: deaf, password: deaf, permissions: {{ subscribe: ["tidegate.inbox.>"] }} }}
    """
    with nats(tmp_path / "nats", users=users) as own:
        at = own.url.partition("//")[2]
        for url in (
            f"nats://ann%20o:p%40ss%2Fword@{at}",
            f"{own.url}?nkey={tmp_path / 'seed'}",
            f"nats://narrow:narrow@{at}",
        ):
            async with nodes(url, 2) as (one, two):
                assert await one.join("kept-login") is None
                assert await two.publish("kept-login", 7) is None
                await until(partial(one.data, "kept-login"))
                assert len((await page(two, "kept-login")).publications) > 0
        async with nodes(f"nats://few:few@{at}", 1) as (one,):
            assert await one.join("open") is None
            assert await one.join("secret") is BACKPLANE_DOWN
        for url, said in (
            (f"nats://ann:very-secret@{at}", "Authorization Violation"),
            (f"nats://very-secret@{at}", "Authorization Violation"),
            (f"nats://deaf:deaf@{at}", "Permissions Violation for Subscription"),
        ):
            node = Node(url, "n")
            with pytest.raises(BackplaneError, match=f"backplane.url: .*{said}") as failed:
                await node.broker.start(node)
            await node.broker.stop()
            assert "very-secret" not in str(failed.value)


@in_loop
async def test_token_is_a_login(tmp_path: Path) -> None:
    options = ("--auth", "the-token")
    with nats(tmp_path, *options, accounts=False) as own:
        async with nodes(own.url.replace("//", "//the-token@"), 1) as (one,):
            assert await one.publish("r", 1) is None


@in_loop
async def test_tls_is_used_and_checked(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    options = ("--tls", "--tlscert", str(cert), "--tlskey", str(key))
    with nats(tmp_path / "nats", *options, accounts=False) as own:
        url = own.url.replace("nats://127.0.0.1", "tls://localhost")
        async with nodes(f"{url}?ca={cert}", 2) as (one, two):
            assert await one.join("kept-tls") is None
            assert await two.publish("kept-tls", 1) is None
            await until(lambda: one.data("kept-tls") == [1])
        node = Node(url, "n")
        with pytest.raises(BackplaneError, match="CERTIFICATE_VERIFY_FAILED"):
            await node.broker.start(node)
        await node.broker.stop()
    with nats(tmp_path / "plain") as plain:
        node = Node(plain.url.replace("nats:", "tls:"), "n")
        with pytest.raises(BackplaneError, match="the server has no TLS"):
            await node.broker.start(node)
        await node.broker.stop()


def test_signature_of_a_creds_file_is_made(tmp_path: Path) -> None:
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    file = tmp_path / "user.creds"
    file.write_text(
        "-----BEGIN NATS USER JWT-----\nthe.jwt.text\n------END NATS USER JWT------\n\n"
        "****** IMPORTANT ******\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    hello = json.loads(Servers(f"nats://h?creds={file}", 1, "n")._hello({"nonce": "abc"}))
    assert hello["jwt"] == "the.jwt.text"
    key = nkeys.from_seed(bytearray(seed))
    assert key.verify(b"abc", base64.b64decode(hello["sig"]))
    assert "nkey" not in hello

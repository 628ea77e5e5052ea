"""What only Valkey and Redis do: scripts, epochs of their runs, Sentinels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backplane.nodes import Node, asked, nodes, until
from tests.support.aio import in_loop
from tests.support.valkey import Valkey, valkey
from tidegate.backplane.envelopes import pack_direct
from tidegate.backplane.redis.servers import connector_of
from tidegate.core.messaging.history import Page
from tidegate.core.messaging.publication import Direct
from tidegate.errors import BackplaneError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One that is there all the time."""
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@in_loop
async def test_more_missed_than_is_kept_is_told(server: Valkey) -> None:
    async with nodes(server.url, history_size=5, pattern="kept-few") as (one, two):
        await one.join("kept-few")
        await two.publish("kept-few", 1)
        await until(lambda: one.got)
        one.broker._links.listening._connector = _refuses  # it does not come back for a while
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not one.broker.up)
        for number in range(2, 20):
            await two.publish("kept-few", number)
        one.broker._links.listening._connector = connector_of(server.url, 1)
        await until(lambda: one.gaps == ["kept-few"])
        await until(lambda: one.broker.up)
        await two.publish("kept-few", 20)
        await until(lambda: one.data("kept-few") == [1, 20])


def has_got(node: Node, directs: int) -> bool:
    return len(node.directs) == directs


@in_loop
async def test_directs_that_were_sent_while_a_link_was_down_come_then(server: Valkey) -> None:
    async with nodes(server.url) as (one, two):
        assert await asked(one.broker.send, Direct("ann", b"0")) == 4
        for number in range(1, 4):
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: two.broker._links.commands.open)
            packed = pack_direct("node-x", number, Direct("ann", str(number).encode()))
            done = asyncio.get_running_loop().create_future()
            two.broker._directs.publish(packed, done.set_result)
            await asyncio.wait_for(done, 20)
            await until(lambda: one.broker.up and two.broker.up)
        for node in (one, two):
            await until(partial(has_got, node, 4))
            assert [direct.data for direct in node.directs] == [b"0", b"1", b"2", b"3"]
            assert node.missing == 0


@in_loop
async def test_directs_that_are_gone_are_told_to_be_missing(tmp_path: Path) -> None:
    with valkey(tmp_path) as own:
        async with nodes(own.url) as (one, two):
            assert await asked(one.broker.send, Direct("ann", b"0")) == 4
            own.kill()
            await until(lambda: not one.broker.up and not two.broker.up)
            own.start()
            await until(lambda: one.broker.up and two.broker.up)
            await until(lambda: one.missing == two.missing == 1)
            assert await asked(two.broker.send, Direct("ann", b"1")) == 4
            await until(lambda: len(one.directs) == 2)
            assert one.missing == 1


def _refuses() -> Any:
    raise ConnectionRefusedError("not now")


@in_loop
async def test_server_with_its_data_kept_begins_a_new_epoch(tmp_path: Path) -> None:
    with valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as own:
        async with nodes(own.url) as (one, two):
            await one.join("kept")
            await two.publish("kept", 1)
            await until(lambda: one.got)
            before = await one.history("kept", None)
            own.kill()
            await until(lambda: not one.broker.up and not two.broker.up)
            own.start()
            await until(lambda: one.broker.up and two.broker.up)
            await until(lambda: one.gaps == ["kept"])
            page = await one.history("kept", None)
            assert isinstance(before, Page)
            assert isinstance(page, Page)
            assert [int(each.data) for each in page.publications] == [1]
            assert page.position.epoch != before.position.epoch
            assert await two.publish("kept", 2) is None
            await until(lambda: one.data("kept") == [1, 2])


@in_loop
async def test_scripts_that_the_server_has_forgotten_are_loaded_again(server: Valkey) -> None:
    async with nodes(server.url, 1) as (one,):
        await one.join("kept-script")
        server.command("SCRIPT", "FLUSH")
        assert await one.publish("kept-script", 1) is None
        await until(lambda: one.data("kept-script") == [1])


@in_loop
async def test_what_is_no_message_is_left_out(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(server.url, 1) as (one,):
        await one.join("junk")
        for channel in ("tidegate:{junk}", "tidegate:all"):
            for data in ("", "\n", "x", "e 1\nrubbish", "a b c\n\n", "\n\x90"):
                server.command("PUBLISH", channel, data)
        assert await one.publish("junk", 1) is None
        await until(lambda: one.data("junk") == [1])
        assert "the backplane sent what no node sends" in caplog.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1", "Connect call failed"),
        ("unix:///nowhere/valkey.sock", "No such file"),
        ("redis+sentinel://127.0.0.1:1/primary", "No master found"),
    ],
)
@in_loop
async def test_server_that_is_not_there_is_an_error_at_the_start(url: str, said: str) -> None:
    node = Node(url, "n", timeout=0.3)
    with pytest.raises(BackplaneError, match=f"backplane.url: .*{said}"):
        await node.broker.start(node)
    await node.broker.stop()


@in_loop
async def test_wrong_password_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    with valkey(tmp_path, "--requirepass", "right-one") as own:
        right = own.url.replace("//", "//:right-one@")
        async with nodes(right, 1) as (one,):
            await one.join("r")
        node = Node(own.url.replace("//", "//:wrong-one@"), "n")
        with pytest.raises(BackplaneError) as failed:
            await node.broker.start(node)
        await node.broker.stop()
        assert "wrong-one" not in str(failed.value)

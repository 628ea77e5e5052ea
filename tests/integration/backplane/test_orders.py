"""What is ordered of one node is done by all, and by those too that were away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec import msgpack
from websockets import Subprotocol, connect
from websockets.exceptions import ConnectionClosed

from tests.support.aio import in_loop
from tests.support.between import Server
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.native import NativeClient
from tests.support.nats import Nats
from tests.support.tokens import bearer
from tests.support.valkey import Valkey
from tests.support.valkey_cluster import ValkeyCluster
from tidegate.core.codes import KICKED, TOKEN_REVOKED, UNAUTHORIZED
from tidegate.errors import ConfigError
from tidegate.node.control import Moved, Ping, Selector


@contextmanager
def frozen_node(server: Server) -> Iterator[None]:
    """Something that is there as a node is, and says nothing when it is asked."""
    if isinstance(server, Nats):
        server.publish("tidegate.peers", msgpack.encode(["frozen", "hello", b""]))
        yield
        server.publish("tidegate.peers", msgpack.encode(["frozen", "bye", b""]))
        return
    channel, subscribe, own = "tidegate:orders", "SUBSCRIBE", server
    if isinstance(server, ValkeyCluster):
        channel, subscribe = "{tidegate}:orders", "SSUBSCRIBE"
        own = server.servers[server.primary_of(channel)]
    assert isinstance(own, Valkey)
    with socket.create_connection(("127.0.0.1", own.port), 5) as frozen:
        frozen.sendall(f"{subscribe} {channel}\r\n".encode())
        frozen.recv(1 << 16)
        yield


async def code_of(client: NativeClient) -> int | None:
    """With which code a client was closed."""
    await client.connection.wait_closed()
    return client.connection.close_code


async def refused(node: FleetNode, user: str) -> bool:
    """Whether the token of a user is not accepted."""
    protocols = [Subprotocol("tidegate.v1.json")]
    headers = dict([bearer(user)])
    async with connect(
        node.url, proxy=None, subprotocols=protocols, additional_headers=headers
    ) as connection:
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            return closed.rcvd is not None and closed.rcvd.code == UNAUTHORIZED.code
    return False


@in_loop
async def test_disconnect_ends_the_connections_of_a_user_on_all_nodes(server: Server) -> None:
    async with fleet(server.url, 3) as nodes:
        anns = [await node.client("ann") for node in nodes]
        bob = await nodes[1].client("bob")
        done = await nodes[0].control.disconnect(Selector(user="ann"), "bye")
        assert (done.count, done.complete) == (3, True)
        assert [await code_of(ann) for ann in anns] == [KICKED.code] * 3
        done = await nodes[2].control.disconnect(Selector(id=bob.welcome["connectionId"]))
        assert (done.count, done.complete) == (1, True)
        assert await code_of(bob) == KICKED.code
        assert nodes[1].node.stats.orders["done"] == 2


@in_loop
async def test_moves_and_pings_reach_the_connections_of_all_nodes(server: Server) -> None:
    async with fleet(server.url) as (one, two):
        clients = [await node.client("ann") for node in (one, two)]
        moved = await one.control.join(Selector(user="ann"), "team")
        assert moved == Moved("team", 2, complete=True)
        for client in clients:
            await client.until(lambda message: message["type"] == "joined")
        assert (one.node.rooms.count("team"), two.node.rooms.count("team")) == (1, 1)
        assert await two.control.leave("team") == Moved("team", 2, complete=True)
        assert (one.node.rooms.count("team"), two.node.rooms.count("team")) == (0, 0)
        bob = await two.client("bob")
        pinged = await one.control.ping_user(Ping("bob"))
        assert (pinged.connections, pinged.complete) == (1, True)
        assert pinged.latency is not None
        assert await bob.ask("direct_message", user="ann", data=1) == {
            "type": "ack",
            "delivered": 2,
        }
        for client in (*clients, bob):
            await client.close()


@in_loop
async def test_settings_change_on_one_node_or_on_all(server: Server) -> None:
    async with fleet(server.url) as (one, two):
        one.control.apply({"limits": {"per_ip": 7}})
        assert two.node.settings.limits.per_ip != 7
        applied = await two.control.apply_everywhere({"limits": {"per_ip": 9}})
        assert (applied.applied, applied.complete) == (["limits.per_ip"], True)
        assert one.node.settings.limits.per_ip == two.node.settings.limits.per_ip == 9
        with pytest.raises(ConfigError, match="per_ip"):
            await two.control.apply_everywhere({"limits": {"per_ip": -1}})
        assert one.node.stats.orders["failed"] == 0


@in_loop
async def test_order_that_a_node_does_not_answer_is_told_in_bounded_time(server: Server) -> None:
    async with fleet(server.url, backplane={"timeout": 0.3}) as (one, two):
        with frozen_node(server):
            ann = await two.client("ann")
            since = time.monotonic()
            bob = await one.client("bob")
            answer = await bob.ask("direct_message", user="ann", data=1)
            assert answer == {"type": "ack", "delivered": 1}
            done = await one.control.disconnect(Selector(user="ann"))
            assert (done.count, done.complete) == (1, False)
            assert time.monotonic() - since < 15
            assert await code_of(ann) == KICKED.code
        await bob.close()


@in_loop
async def test_order_of_a_newer_version_is_counted_and_not_done(server: Server) -> None:
    async with fleet(server.url) as (one, two):
        answers = await one.backplane.orders.ask("make_tea", b"\xc0", 5)
        assert answers == ([], False)
        assert two.node.stats.orders["unknown"] == 1
        answers = await one.backplane.orders.ask("disconnect", b"\xc0", 5)
        assert answers == ([], False)
        assert two.node.stats.orders["failed"] == 1


@in_loop
async def test_revocation_holds_on_all_nodes_and_on_those_that_come(server: Server) -> None:
    async with fleet(server.url) as (one, two):
        ann = await two.client("ann")
        done = await one.control.revoke("ann", time.time() + 30)
        assert (done.closed, done.complete) == (1, True)
        assert await code_of(ann) == TOKEN_REVOKED.code
        assert await refused(two, "ann")
        async with fleet(server.url, 1) as (late,):
            assert await refused(late, "ann")
            assert not await refused(late, "bob")


@in_loop
async def test_node_learns_of_a_revocation_that_was_made_while_it_was_away(
    server: Server,
) -> None:
    async with fleet(server.url) as (one, two):
        ann = await two.client("ann2")
        await two.cut()
        done = await one.control.revoke("ann2", time.time() + 30)
        # To Valkey it is no node of the fleet now; NATS does not know how many there are.
        assert (done.closed, done.complete) == (0, not isinstance(server, Nats))
        await two.join()
        assert await code_of(ann) == TOKEN_REVOKED.code
        assert await refused(two, "ann2")


@in_loop
async def test_revocation_outlives_the_loss_of_the_server(own: Server) -> None:
    async with fleet(own.url) as (one, two):
        await one.control.revoke("ann", time.time() + 30)
        own.kill()
        own.forget()
        await until(lambda: not one.up and not two.up)
        done = await one.control.revoke("bob", time.time() + 30)
        assert done.complete is False
        own.start()  # it has nothing any more
        await until(lambda: one.up and two.up)
        bob_known = two.node.revocations
        await until(lambda: bob_known.revoked("bob", None, time.time()))
        async with fleet(own.url, 1) as (late,):
            for user in ("ann", "bob"):
                assert await refused(late, user)
                assert await refused(two, user)

"""What nodes do for each other over NATS, which keeps less for them than Valkey does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import msgpack

from tests.integration.backplane.nodes import asked
from tests.support.aio import in_loop
from tests.support.fleet_nodes import FleetNode, fleet, until
from tests.support.nats import Nats, cluster, nats
from tidegate.backplane.base import Revocation
from tidegate.backplane.nats.bus import Bus
from tidegate.backplane.nats.peers import Peers
from tidegate.backplane.nats.presence import NatsPresence
from tidegate.backplane.nats.revocations import NatsRevocations
from tidegate.backplane.nats.servers import Servers
from tidegate.backplane.nats.sessions import NatsSessions
from tidegate.backplane.nats.state import Failed, State, Value
from tidegate.backplane.nodes import times_of
from tidegate.core.messaging.fleet_presence import FleetPresence
from tidegate.core.messaging.presence import Present
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import BackplaneSettings, Settings
from tidegate.errors import BackplaneError, ConfigError
from tidegate.node.control import PresenceQuery, PresenceRow, Selector

RULES: list[dict[str, Any]] = [
    {"pattern": "seen*", "presence": "members", "presence_grace": 0.0, "presence_users": 10_000}
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with nats(tmp_path_factory.mktemp("nats")) as started:
        yield started


class Parts:
    """The parts of a node's backplane, without the node."""

    def __init__(self, url: str, name: str, prefix: str) -> None:
        settings = BackplaneSettings(url=url, timeout=1.0, prefix=prefix)
        self.bus = Bus(Servers(url, 1.0, name), settings, name)
        self.state = State(self.bus, 1)
        self.peers = Peers(self.bus, times_of(10.0))
        rules = Rules(Settings.from_mapping({"rooms": {"rules": RULES}}).rooms.rules)
        self.presence = NatsPresence(self.bus, rules, self.peers)
        self.here = FleetPresence()
        self.presence.start(self.here)
        self.sessions = NatsSessions(self.bus, self.state)
        self.keys: list[bytes] = []
        self.kept: dict[str, bytes] = {}
        self.sessions.start(self.keys.append, lambda: self.kept.items(), lambda: 1.0)
        self.revocations = NatsRevocations(self.bus, self.state)
        self.known: dict[str, Revocation] = {}
        self.revocations.start(self.known.values, self._learn)

    def _learn(self, some: Any) -> None:
        self.known.update({one.user: one for one in some})

    def joined(self, room: str, *users: tuple[str, bytes | None]) -> None:
        """Users come to a room, and the others are told."""
        for user, info in users:
            self.here.join(room, user, info)
        self.presence.tell(room, *self.here.take_own(room))


@asynccontextmanager
async def parts(url: str, prefix: str, count: int = 2) -> AsyncIterator[list[Parts]]:
    made = [Parts(url, f"n{number}", prefix) for number in range(count)]
    try:
        for one in made:
            await one.bus.start()
        await until(lambda: all(len(one.peers.present) == count - 1 for one in made))
        yield made
    finally:
        for one in made:
            await one.bus.stop()


async def got(state: State, *key: str) -> Value:
    found = await asked(state.get, key)
    assert isinstance(found, Value)
    return found


async def put(
    state: State, key: tuple[str, ...], data: bytes, ttl: float = 60, after: int | None = None
) -> Value | Failed:
    """Write a value."""
    done: asyncio.Future[Value | Failed] = asyncio.get_running_loop().create_future()
    state.put(key, data, ttl, done.set_result, after)
    return await done


# What is written down.


@in_loop
async def test_value_is_written_after_the_one_that_was_read_alone(server: Nats) -> None:
    async with parts(server.url, "values") as (one, two):
        assert await got(one.state, "k", "a") == Value(b"", 0)
        first = await put(one.state, ("k", "a"), b"1", after=0)
        assert await put(two.state, ("k", "a"), b"2", after=0) == Failed(known=True)
        assert isinstance(first, Value)
        assert await got(two.state, "k", "a") == first
        assert isinstance(await put(two.state, ("k", "a"), b"3", after=first.sequence), Value)
        await put(one.state, ("k", "short"), b"1", ttl=0.5)
        async with asyncio.timeout(10):
            while (await got(one.state, "k", "short")).data:
                await asyncio.sleep(0.1)


@in_loop
async def test_all_values_of_a_kind_are_read_however_many(server: Nats) -> None:
    async with parts(server.url, "many", 1) as (one,):
        assert await asked(one.state.all, "k") == []
        await asyncio.gather(
            *(put(one.state, ("k", f"x.{n} *"), str(n).encode()) for n in range(2500))
        )
        await put(one.state, ("other", "x"), b"no")
        await put(one.state, ("k", "x.7 *"), b"")
        found = await asked(one.state.all, "k")
        assert sorted(map(int, found)) == [n for n in range(2500) if n != 7]


@in_loop
async def test_session_of_a_dead_node_is_taken_once(server: Nats) -> None:
    async with parts(server.url, "taken", 3) as (dead, two, three):
        await until(lambda: dead.keys and two.keys and three.keys)
        assert dead.keys[-1] == two.keys[-1] == three.keys[-1]
        dead.sessions.keep([(f"s{n}", b"%d" % n) for n in range(20)])
        dead.sessions.drop(["s19"])
        async with asyncio.timeout(10):
            while (await got(two.state, "session", "n0", "s19")).data or not (
                await got(two.state, "session", "n0", "s18")
            ).data:
                await asyncio.sleep(0.02)
        for number in range(19):
            found = await asyncio.gather(
                *(asked(node.sessions.take, "n0", f"s{number}") for node in (two, three, two))
            )
            assert sorted(found, key=str) == sorted([None, None, b"%d" % number], key=str)
        assert await asked(two.sessions.take, "n0", "s19") is None
        assert await asked(two.sessions.take, "nobody", "s1") is None


@in_loop
async def test_sessions_of_a_dead_node_are_gone_after_their_time(
    server: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.backplane.nats.sessions._RENEW_SECONDS", 0.5)
    async with parts(server.url, "expired", 1) as (two,):
        async with parts(server.url, "expired", 1) as (one,):
            one.bus.node = "gone"
            one.sessions.keep([("s", b"1")])
            one.sessions._renew()
            await until(lambda: one.keys)
            async with asyncio.timeout(10):
                while not (await got(one.state, "alive", "gone")).data:
                    await asyncio.sleep(0.01)
                while not (await got(one.state, "session", "gone", "s")).data:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while (await got(two.state, "alive", "gone")).data:
                await asyncio.sleep(0.1)
        assert (await got(two.state, "session", "gone", "s")).data
        assert await asked(two.sessions.take, "gone", "s") is None


@in_loop
async def test_older_revocation_never_replaces_a_newer_one(server: Nats) -> None:
    soon = time.time() + 60
    async with parts(server.url, "revoked", 2) as (one, two):
        older, newer = Revocation("ann o", 100.0, soon), Revocation("ann o", 200.0, soon)
        one.revocations.keep(newer)
        await until(lambda: two.known.get("ann o") == newer)
        two.known["ann o"] = older  # as one that was away
        two.revocations.keep(older)
        two.revocations._meet()
        await until(lambda: two.known.get("ann o") == newer)
        assert await asked(one.state.all, "revoked") == [msgpack.encode(newer)]
        for number in range(40):  # at the same time, from both
            (one, two)[number % 2].revocations.keep(Revocation("bob", float(number), soon))
        async with asyncio.timeout(10):
            while True:
                found = [msgpack.decode(x, type=Revocation) for x in await _all(one)]
                if {each.user: each.before for each in found}.get("bob") == 39.0:
                    break
                await asyncio.sleep(0.02)


async def _all(one: Parts) -> list[bytes]:
    found: list[bytes] = await asked(one.state.all, "revoked")
    return found


# Who is there.


@in_loop
async def test_change_that_was_lost_is_read_when_the_room_is_renewed(server: Nats) -> None:
    async with parts(server.url, "lost") as (one, two):
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        two.presence.entering("seen", done.set_result)(None)
        assert await done is None
        one.joined("seen", ("ann", None))  # two has no subscription here: it is lost
        assert two.here.count("seen") == 0
        told: list[bytes] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.bus, "tell", lambda _, data: told.append(data))
            one.presence._renew_room("seen")
        two.presence.told("seen", told[0][2:])
        await until(lambda: two.here.count("seen") == 1)


@in_loop
async def test_room_of_more_users_than_a_message_can_have_is_read(server: Nats) -> None:
    async with parts(server.url, "big") as (one, two):
        info = b'"' + b"x" * 1000 + b'"'
        one.joined("seen", *((f"u{n}", info) for n in range(3000)))
        found = await asked(two.presence.read, "seen")
        assert list(found) == ["n0"]
        assert sorted(found["n0"]) == sorted(Present(f"u{n}", 1, info) for n in range(3000))


@in_loop
async def test_change_that_is_too_big_for_a_message_is_asked_for(server: Nats) -> None:
    async with parts(server.url, "bigger") as (one, two):
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        two.presence.entering("seen", done.set_result)(None)
        await done
        number = two.bus.link.subscribe("bigger.room.seen")
        await asked(two.bus.link.confirm)
        two.bus.serve(lambda sent: two.presence.told("seen", sent.data[2:]), lambda _: None)
        one.joined("seen", *((f"u{n}", b"1" * 3000) for n in range(900)))
        await until(lambda: two.here.count("seen") == 900)
        two.bus.link.unsubscribe(number)


@in_loop
async def test_answer_that_is_too_big_for_a_message_was_not_done(server: Nats) -> None:
    async with fleet(server.url) as (one, two):

        async def carry_out(_kind: str, _body: bytes) -> bytes:
            return bytes(2_000_000)

        two.backplane.orders.start(carry_out)
        since = time.monotonic()
        assert await one.backplane.orders.ask("big", b"", 10) == ([], False)
        assert await one.backplane.orders.ask("big", bytes(2_000_000), 10) == ([], False)
        assert time.monotonic() - since < 5
        name = two.node.engine.shared.name
        assert (await one.backplane.orders.ask_one(name, "big", b"", 10)).complete is False
        since = time.monotonic()
        assert await one.backplane.orders.ask_one("nobody", "big", b"", 10) == ([], True)
        assert time.monotonic() - since < 5


@in_loop
async def test_node_that_does_not_answer_is_waited_for_once(server: Nats) -> None:
    async with fleet(server.url, backplane={"timeout": 0.3}) as (one, two):
        server.publish("tidegate.peers", msgpack.encode(["frozen", "hello", b""]))
        await until(lambda: "frozen" in one.backplane.nodes.present)
        ann, bob = await two.client("ann"), await one.client("bob")
        await bob.ask("direct_message", user="ann", data=1)
        since = time.monotonic()
        for number in range(20):
            answer = await bob.ask("direct_message", user="ann", data=number)
            assert answer["delivered"] == 1
        assert time.monotonic() - since < 20 * 0.3 / 2
        done = await one.control.disconnect(Selector(user="ann"))
        assert (done.count, done.complete) == (1, False)
        server.publish("tidegate.peers", msgpack.encode(["frozen", "bye", b""]))
        await until(lambda: "frozen" not in one.backplane.nodes.known)
        done = await one.control.disconnect(Selector(user="bob"))
        assert (done.count, done.complete) == (1, True)
        await ann.connection.wait_closed()


# What a server needs.


@in_loop
async def test_fleet_without_jetstream_has_all_but_what_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with nats(tmp_path, jetstream=False) as own:
        async with fleet(own.url, rooms={"rules": RULES}) as (one, two):
            assert "keeps no revocations" in caplog.text
            ann = await one.client("ann")
            await ann.ask("join", room="seen")
            async with asyncio.timeout(10):
                while (await _row(two)).count != 1:
                    await asyncio.sleep(0.02)
            done = await two.control.revoke("ann", time.time() + 30)
            assert (done.closed, done.complete) == (1, True)
        node = FleetNode(own.url, sessions={"enabled": True})
        with pytest.raises(BackplaneError, match=r"sessions\.enabled needs JetStream"):
            await node.node.start()
        await node.node.stop(0.1)


async def _row(node: FleetNode) -> PresenceRow:
    row = await node.control.presence(PresenceQuery("seen"))
    assert isinstance(row, PresenceRow)
    return row


def test_limits_of_the_fleet_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"fleet\.connections.*NATS cannot count"):
        FleetNode("nats://127.0.0.1:1", fleet={"connections": 10})


@in_loop
async def test_state_is_there_when_a_server_of_a_cluster_is_killed(tmp_path: Path) -> None:
    with cluster(tmp_path) as servers:
        url = "nats://" + ",".join(one.url.partition("//")[2] for one in servers)
        made = [Parts(url, f"n{number}", "tidegate") for number in range(2)]
        for one in made:
            one.state._replicas = 3
            async with asyncio.timeout(30):
                while True:
                    try:
                        await one.bus.start()
                    except BackplaneError:
                        await one.bus.stop()
                        await asyncio.sleep(0.2)
                    else:
                        break
        first, second = made
        await until(lambda: first.keys and second.keys)
        assert first.keys[-1] == second.keys[-1]
        revoked = Revocation("ann", 100.0, time.time() + 60)
        first.known["ann"] = revoked
        servers[0].kill()
        await until(lambda: first.bus.up and second.bus.up)
        first.revocations._meet()
        async with asyncio.timeout(30):
            while await asked(second.state.all, "revoked") != [msgpack.encode(revoked)]:
                await asyncio.sleep(0.1)
        await until(lambda: second.known.get("ann") == revoked)
        for one in made:
            await one.bus.stop()

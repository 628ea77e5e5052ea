"""Limits that hold over four servers, whatever becomes of one of them, or of what is between them.

The clients count who is connected; the servers are not asked.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support import aio
from tests.support.fleet import Watcher
from tests.support.native import NativeClient
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.tokens import SECRET, token
from tests.support.valkey import Sentinels, Valkey, sentinels, valkey

PER_USER, ALL, TTL = 10, 500, 2.0
USERS = [f"u{number}" for number in range(60)]
SECONDS = 15.0  # in which all counts are right again

SETTINGS: dict[str, dict[str, Any]] = {
    "auth": {"secret": SECRET},
    "proxies": {"trusted": ["127.0.0.1"]},
    "limits": {"per_user": PER_USER, "per_ip": 100, "connections": 2000},
    "pacing": {"enabled": False},
    "server": {"max_pending": 10_000, "handshake_timeout": 30},
    "fleet": {"connections": ALL, "ttl": TTL},
}
STRICT = {"connections": ALL, "ttl": TTL, "when_down": "refuse", "when_lost": "close"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path / "valkey") as started:
        yield started


def settings_of(own: Valkey | Sentinels, **sections: Any) -> dict[str, Any]:
    return {**SETTINGS, "backplane": {"url": own.url, "timeout": 1}, **sections}


def counted(own: Valkey) -> bytes:
    """The counts of all nodes, as they are at the server between them."""
    names = own.command("SMEMBERS", "tidegate:{fleet}:members").split(b"\r\n")[2::2]
    return b"".join(
        own.command("HGETALL", f"tidegate:{{fleet}}:counts:{one.decode()}") for one in names
    )


def holds(servers: list[Process]) -> int:
    return sum(server.open() for server in servers)


@pytest.mark.alone
def test_limits_hold_at_every_instant_through_all_that_happens(serve: Start, own: Valkey) -> None:
    servers = [serve(settings_of(own, fleet=STRICT)) for _ in range(4)]
    ports = [server.port for server in servers]
    watcher = Watcher(PER_USER, ALL)
    chance = random.Random(1)

    async def run() -> None:
        # All at once.
        await watcher.crowd([(chance.choice(USERS), chance.choice(ports)) for _ in range(3000)])
        assert len(watcher.open) == ALL
        assert watcher.told.keys() <= {"fleet_limit", "user_limit"}

        # One is killed: what it held is free after its time to live, and not before.
        servers[0].process.kill()
        await wait(lambda: not watcher.at(ports[0]))
        await watcher.fill(USERS, ports[1:])

        # One does nothing for longer than that. It gives up what it held.
        frozen = watcher.at(ports[1])
        servers[1].process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(TTL)
        watcher.forget(frozen)
        await watcher.fill(USERS, ports[2:])
        servers[1].process.send_signal(signal.SIGCONT)
        await asyncio.wait_for(asyncio.gather(*(one.watch for one in frozen)), SECONDS)
        await wait(lambda: servers[1].get("/ready")[0] == 200)
        for visitor in watcher.at(ports[2])[:100]:
            visitor.leave()
        await watcher.fill(USERS, ports[1:])
        assert watcher.at(ports[1])

        # What is between them is killed, and comes back without its data.
        own.kill()
        watcher.told.clear()
        await wait(lambda: servers[2].get("/ready")[1].get("reason") == "fleet_down")
        await watcher.crowd([(user, port) for user in USERS[:20] for port in ports[1:]])
        assert watcher.told.keys() <= {"fleet_down", "user_limit"}
        assert len(watcher.open) == ALL
        own.start()
        leaving = [*watcher.open][:200]
        for visitor in leaving:
            visitor.leave()
        await watcher.fill(USERS, ports[1:], SECONDS)
        await watcher.crowd([(user, port) for user in USERS for port in ports[1:]])
        assert len(watcher.open) == ALL
        await watcher.leave_all()

    aio.run(run())
    assert not watcher.broken, watcher.broken[:5]
    wait_until(lambda: not holds(servers[1:]) and b"$1\r\nc\r\n" not in counted(own))


def sums(own: Valkey) -> Counter[str]:
    """The counts of all nodes together: of the fleet, and of each user."""
    found: Counter[str] = Counter()
    words = counted(own).split(b"\r\n")
    for name, _, count in zip(words, words[1:], words[2:], strict=False):
        if name == b"c" or name.startswith(b"u:"):
            found[name.decode()] += int(count)
    return +found


@pytest.mark.alone
def test_limits_hold_at_every_instant_through_a_failover_by_sentinel(
    serve: Start, tmp_path: Path
) -> None:
    watcher = Watcher(PER_USER, ALL)
    chance = random.Random(2)
    strict = {**STRICT, "ttl": 5.0}  # longer than a failover takes: nobody has to leave

    async def come_and_go(ports: list[int], over: asyncio.Event) -> None:
        """Some leave and more come, until it is over."""
        while not over.is_set():
            spare = max(0, len(watcher.open) - ALL + 50)  # most stay while nobody can come
            for visitor in chance.sample([*watcher.open], min(10, spare)):
                visitor.leave()
            await watcher.crowd([(chance.choice(USERS), chance.choice(ports)) for _ in range(20)])
            await asyncio.sleep(0.02)

    async def run(own: Sentinels, servers: list[Process]) -> None:
        ports, over = [server.port for server in servers], asyncio.Event()
        await watcher.crowd([(chance.choice(USERS), chance.choice(ports)) for _ in range(2000)])
        assert len(watcher.open) == ALL
        moving = asyncio.create_task(come_and_go(ports, over))
        await asyncio.sleep(1)
        assert watcher.told.keys() <= {"fleet_limit", "user_limit"}
        failing = asyncio.create_task(asyncio.to_thread(own.fail_over))
        await wait(lambda: watcher.told["fleet_down"])
        await failing
        back = time.monotonic()
        await wait(lambda: all(server.get("/ready")[0] == 200 for server in servers))
        own.primary.start()  # it has lost its data, and takes itself for a primary at first
        await asyncio.sleep(1)
        over.set()
        await moving
        assert not watcher.broken, watcher.broken[:5]
        await watcher.fill(USERS, ports)
        right = {"c": ALL, **{f"u:{user}": count for user, count in (+watcher.users).items()}}
        await wait(lambda: sums(own.replica) == right)
        assert time.monotonic() - back < SECONDS
        watcher.told.clear()
        await watcher.crowd([(user, port) for user in USERS for port in ports])
        assert len(watcher.open) == ALL
        assert watcher.told.keys() <= {"fleet_limit", "user_limit"}
        await watcher.leave_all()

    with sentinels(tmp_path) as own:
        servers = [serve(settings_of(own, fleet=strict)) for _ in range(4)]
        aio.run(run(own, servers), 40)
        assert not watcher.broken, watcher.broken[:5]
        wait_until(lambda: not holds(servers) and not sums(own.replica))


async def wait(condition: Any, seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def test_without_what_is_between_them_servers_keep_limits_of_their_own(
    serve: Start, own: Valkey
) -> None:
    servers = [serve(settings_of(own)) for _ in range(2)]
    ports = [server.port for server in servers]
    watcher = Watcher(2 * PER_USER, ALL)

    async def run() -> None:
        await watcher.crowd([("ann", port) for port in ports for _ in range(8)])
        assert len(watcher.open) == PER_USER
        own.kill()
        await wait(lambda: not servers[0].metrics()["websocket_fleet_limits_hold"])
        await wait(lambda: not servers[1].metrics()["websocket_fleet_limits_hold"])
        await watcher.crowd([("ann", port) for port in ports for _ in range(12)])
        assert len(watcher.open) == 2 * PER_USER
        assert [server.get("/ready")[0] for server in servers] == [200, 200]
        await wait(lambda: all("has not heard of this node" in server.log for server in servers))
        own.start()
        await wait(lambda: all(one.metrics()["websocket_fleet_limits_hold"] for one in servers))
        watcher.told.clear()
        await watcher.crowd([("ann", port) for port in ports])
        assert watcher.told == {"user_limit": 2}
        for visitor in [*watcher.open][: PER_USER + 1]:
            visitor.leave()
        await wait(lambda: holds(servers) == PER_USER - 1)
        await watcher.crowd([("ann", port) for port in ports for _ in range(8)])
        assert len(watcher.open) == PER_USER
        await watcher.leave_all()

    aio.run(run())


def test_who_comes_late_with_its_token_is_counted_by_the_fleet(serve: Start, own: Valkey) -> None:
    auth = {"secret": SECRET, "anonymous": True, "first_message": True}
    servers = [serve(settings_of(own, auth=auth, limits={"per_user": 1})) for _ in range(2)]

    async def run() -> None:
        ann, other = [await NativeClient.at(server.url) for server in servers]
        assert (await ann.ask("auth", token=token("ann")))["type"] == "ack"
        await other.send("auth", token=token("ann"))
        await wait(lambda: other.connection.close_code == 1013)
        assert "user_limit" in (other.connection.close_reason or "")
        await other.close()
        await ann.close()
        again = await NativeClient.at(servers[1].url)
        assert (await again.ask("auth", token=token("ann")))["type"] == "ack"
        await again.close()

    aio.run(run())


def test_the_waiting_room_waits_for_the_fleet(serve: Start, own: Valkey) -> None:
    fleet = {"connections": 1, "ttl": TTL}
    waiting = {"enabled": True}
    servers = [serve(settings_of(own, fleet=fleet, waiting_room=waiting)) for _ in range(2)]

    async def run() -> None:
        first = await NativeClient.at(servers[0].url, "ann")
        second = asyncio.create_task(NativeClient.at(servers[1].url, "bob"))
        await wait(lambda: servers[1].stats()["waiting"]["now"] == 1)
        await first.close()
        await (await asyncio.wait_for(second, SECONDS)).close()

    aio.run(run())


def test_a_session_keeps_its_lease_in_the_fleet(serve: Start, own: Valkey) -> None:
    fleet = {"connections": 1, "ttl": TTL}
    servers = [serve(settings_of(own, fleet=fleet, sessions={"enabled": True})) for _ in range(2)]

    async def run() -> None:
        ann = await NativeClient.at(servers[0].url, "ann")
        await ann.drop()
        await wait(lambda: servers[0].metrics()["websocket_sessions_waiting"])
        watcher = Watcher(1, 1)
        assert await watcher.attempt("bob", servers[1].port) is None
        assert watcher.told == {"fleet_limit": 1}
        again = await NativeClient.at(
            servers[0].url, "ann", f"tidegate.session.{ann.welcome['session']}.0"
        )
        assert again.welcome["connectionId"] == ann.welcome["connectionId"]
        await again.close()
        await wait(lambda: not servers[0].open())
        visitor = await watcher.attempt("bob", servers[1].port)
        assert visitor is not None
        await watcher.leave_all()

    aio.run(run())


def test_explain_says_what_the_fleet_has(serve: Start, own: Valkey) -> None:
    limits = {"per_user": 2, "per_ip": 9, "per_room": 1}
    fleet = {"connections": 5, "ttl": TTL, "when_down": "refuse"}
    servers = [serve(settings_of(own, fleet=fleet, limits=limits)) for _ in range(2)]
    other = servers[1]

    def said(path: str) -> tuple[str | None, dict[str, tuple[bool, str]]]:
        answer = other.get(path)[1]
        steps = {step["name"]: (step["passed"], step["detail"]) for step in answer["steps"]}
        return answer.get("by"), steps

    async def run() -> None:
        clients = [await NativeClient.at(servers[0].url, "ann") for _ in range(2)]
        await clients[0].ask("join", room="r")
        by, steps = await asyncio.to_thread(said, "/explain?user=ann")
        assert by == "fleet_per_user"
        assert steps["per_user"] == (True, "0 of 2 connections of this user")
        assert steps["fleet_per_ip"] == (True, "2 of 9 connections from this address on all nodes")
        assert steps["fleet_per_user"] == (False, "2 of 2 connections of this user on all nodes")
        assert steps["fleet_limit"] == (True, "2 of 5 connections on all nodes")
        _, steps = await asyncio.to_thread(said, "/explain/room?room=r&user=bob")
        assert steps["fleet_members"] == (False, "1 of 1 members on all nodes")
        own.kill()
        await wait(lambda: other.get("/ready")[0] == 503)
        by, steps = await asyncio.to_thread(said, "/explain?user=bob")
        assert by == "fleet_down"
        assert "nobody is admitted" in steps["fleet_down"][1]
        for client in clients:
            await client.drop()

    aio.run(run())

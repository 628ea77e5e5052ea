"""What pressure does, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import CLOSE, PING, PONG, TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tidegate import Server
from tidegate.core.admission.shedding import Change, Zone

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
LIMIT = 20  # 14 of them are a warning, 17 critical, 19 an emergency
ZONES = ("normal", "warning", "critical", "emergency")


def settings(**shedding: Any) -> dict[str, Any]:
    """Pressure is what share of the connections is open; other signals depend on the machine."""
    others: dict[str, Any] = {key: [] for key in ("cpu", "loop_lag", "memory", "descriptors")}
    return {
        "auth": {"secret": SECRET},
        "limits": {"connections": LIMIT},
        "shedding": {"enabled": True, "hold": 0.5, **others, **shedding},
    }


class Crowd:
    """Native clients of one server."""

    def __init__(self, server: Process, stack: ExitStack) -> None:
        self.server = server
        self.stack = stack
        self.members: list[Raw] = []

    def join(self, count: int, priority: int = 0) -> list[Raw]:
        """Connect some more, each as a user of its own."""
        added = []
        for _ in range(count):
            raw = self.stack.enter_context(self.server.connect())
            user = f"u{len(self.members)}"
            raw.open(headers=[bearer(user, priority=priority), NATIVE])
            self.members.append(raw)
            added.append(raw)
            assert hear(raw)["type"] == "connected"
        return added

    def leave(self, count: int) -> None:
        for raw in self.members[-count:]:
            raw.close()
        del self.members[-count:]

    def wait_zone(self, zone: str) -> None:
        wait_until(lambda: self.server.stats()["load"]["zone"] == zone, 20, zone)


@contextlib.contextmanager
def crowd(server: Process) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(server, stack)


def hear(raw: Raw) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw.message())
    return message


def hear_of(zone: str, raw: Raw) -> dict[str, Any]:
    """Read the news of zones up to that of one; some met an earlier change on their way in."""
    while (message := hear(raw))["zone"] != zone:
        assert message["type"] == "system"
    return message


def say(raw: Raw, **message: Any) -> None:
    raw.send_frame(TEXT, json.dumps(message))


def ask(raw: Raw, **message: Any) -> dict[str, Any]:
    say(raw, id=1, **message)
    return hear(raw)


def test_up_through_all_zones_and_back(serve: Start) -> None:
    server = serve(settings())
    with crowd(server) as clients:
        (first, *_) = clients.join(13)
        assert ask(first, type="join", room="r") == {"type": "ack", "id": 1, "members": 1}
        for count, zone, size, rate, interval in [
            (1, "warning", 512, 50, 45),
            (3, "critical", 64, 20, 60),
            (2, "emergency", 16, 5, 120),
        ]:
            before = list(clients.members)
            clients.join(count, priority=50)
            clients.wait_zone(zone)
            expected = {
                "pingInterval": interval,
                "maxMessageSize": size * 1024,
                "messagesPerSecond": rate,
                "broadcast": zone != "emergency",
            }
            for raw in before:
                told = {"type": "system", "zone": zone, "degraded": True, "settings": expected}
                assert hear_of(zone, raw) == told
            load = server.stats()["load"]
            assert load["driver"] == "connections"
            assert load["pressure"] == len(clients.members) / LIMIT
            metrics = server.metrics()
            assert metrics["websocket_zone"] == ZONES.index(zone)
            assert metrics[f'websocket_zone_changes_total{{zone="{zone}"}}'] == 1
            assert metrics['websocket_pressure{signal="connections"}'] == load["pressure"]
        assert server.stats()["load"]["zone"] == "emergency"
        # It is enforced.
        answer = ask(first, type="room_message", room="r", data=1)
        assert (answer["code"], answer["retryAfter"]) == ("broadcast_off", 10)
        answer = ask(first, type="direct_message", user="nobody", data="x" * (17 * 1024))
        assert answer["code"] == "too_big"
        # Nobody without priority gets in, by HTTP or in-band; whoever has it is told all of that.
        with server.connect() as other:
            other.open(headers=[NATIVE])
            assert json.loads(other.closed(1013).reason)["error"] == "shedding"
        with server.connect() as other:
            response = other.ask()
            assert response.status == 503
            assert response.headers["x-rejection-reason"] == "shedding"
        with server.connect() as other:
            other.open(headers=[bearer("vip", priority=50), NATIVE])
            welcome = hear(other)
            assert welcome["degraded"] is True
            assert welcome["settings"]["broadcast"] is False
        assert server.stats()["rejections"]["shedding"] == 2
        # And back.
        clients.leave(10)
        clients.wait_zone("normal")
        news = hear_of("normal", first)
        assert news["degraded"] is False
        assert news["settings"]["broadcast"] is True
        say(first, type="room_message", room="r", data="again", id=2)
        assert {hear(first)["type"] for _ in range(2)} == {"ack", "room_message"}
    for zone in ZONES:
        assert f"zone changed zone={zone} " in server.log


def test_the_message_rate_of_the_zone(serve: Start) -> None:
    server = serve(settings())
    with crowd(server) as clients:
        (first, *_) = clients.join(13)
        for _ in range(50):
            say(first, type="leave", room="never")
        assert {hear(first)["code"] for _ in range(50)} == {"not_joined"}
        clients.join(6, priority=50)
        clients.wait_zone("emergency")
        hear_of("emergency", first)
        time.sleep(2.5)
        # Ten may come at once, and then five a second.
        for _ in range(25):
            say(first, type="leave", room="never")
        codes = [hear(first)["code"] for _ in range(25)]
        assert 10 <= codes.count("not_joined") <= 14, codes
        assert codes[:10] == ["not_joined"] * 10
        assert set(codes) == {"not_joined", "message_rate"}


def test_pings_come_as_often_as_the_zone_says(serve: Start) -> None:
    values = settings()
    values["heartbeat"] = {"interval": 0.4, "timeout": 60}  # only the first answers
    values["zones"] = {"ping_interval": [1.6, 1.6, 1.6]}
    server = serve(values)

    def pings(raw: Raw, seconds: float) -> int:
        count, end = 0, time.monotonic() + seconds
        raw.sock.settimeout(0.1)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                got = raw.frame()
                if got.opcode == PING:
                    raw.send_frame(PONG, got.payload)
                    count += 1
        raw.sock.settimeout(10)
        return count

    with crowd(server) as clients:
        (first,) = clients.join(1)
        assert pings(first, 2.0) in (4, 5, 6)
        clients.join(13)
        clients.wait_zone("warning")
        assert pings(first, 5.0) in (2, 3, 4)
        clients.leave(8)
        clients.wait_zone("normal")
        assert pings(first, 2.4) in (4, 5, 6, 7)
        assert server.stats()["disconnections"]["heartbeat_timeout"] == 0


def test_an_emergency_closes_the_longest_idle(serve: Start) -> None:
    server = serve(settings(idle_after=1, shed_every=60))
    with crowd(server) as clients:
        plain = clients.join(13)
        time.sleep(1.2)
        talks, *_ = plain
        say(talks, type="leave", room="never")
        clients.join(7, priority=50)
        # A tenth of 20, so two: not the first, which has just said something, but the next two.
        delays = []
        for raw in plain[1:3]:
            got = raw.closed(1001)
            reason = json.loads(got.reason)
            delays.append(reason.pop("retryAfter"))
            assert reason == {"error": "shed"}
            raw.send_frame(CLOSE, got.payload)
        assert all(60 <= delay <= 120 for delay in delays)
        wait_until(lambda: server.open() == 18)
        time.sleep(1.5)
        assert server.open() == 18
        assert server.stats()["disconnections"]["shed"] == 2
        assert 'websocket_disconnections_total{reason="shed"}' in server.metrics()


@pytest.mark.parametrize("off", ["off", "on trial"])
def test_without_consequences_pressure_is_only_shown(serve: Start, off: str) -> None:
    values = settings(enabled=off != "off", idle_after=1)
    if off == "on trial":
        values["limits"]["dry_run"] = ["shedding"]
    server = serve(values)
    with crowd(server) as clients:
        first, *_ = clients.join(19)
        clients.wait_zone("emergency")
        time.sleep(1.5)
        clients.join(1)
        # Nothing but the answer came.
        assert ask(first, type="join", room="r") == {"type": "ack", "id": 1, "members": 1}
        assert server.open() == 20
        dry = server.stats()["dryRun"]["shedding"]
        assert (dry > 0) is (off == "on trial")


def test_a_handler_that_holds_the_loop_is_named_to_the_hook() -> None:
    changes: list[Change] = []

    async def hook(change: Change) -> None:
        await asyncio.sleep(0)
        changes.append(change)

    async def run() -> None:
        off = dict.fromkeys(("cpu", "memory", "descriptors"), ())
        shedding = {"enabled": True, "smoothing": 0.1, "hold": 0.5, **off}
        server = Server({"server": {"port": 0}, "shedding": shedding}, on_zone_change=hook)
        async with server:
            for _ in range(3):
                time.sleep(0.7)
                await asyncio.sleep(0.3)
            assert server.stats().load.zone == "emergency"
            async with asyncio.timeout(10):
                while not changes or changes[-1].new is not Zone.NORMAL:
                    await asyncio.sleep(0.05)

    asyncio.run(run())
    assert changes[0].driver == "loop_lag"
    assert changes[0].old is Zone.NORMAL
    assert max(change.new for change in changes) is Zone.EMERGENCY

"""`Server`: its life, what is known of it, and the deadlines it keeps."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic, time
from typing import Any, cast

import pytest
import uvloop

from tidegate import ConfigError, Server, Settings
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease
from tidegate.engine.connection import Connection
from tidegate.engine.door import Grant
from tidegate.node import server as module

SECRET = "a secret of thirty-two bytes, or more"


def run(main: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 5))


@pytest.fixture(autouse=True)
def _leave_the_collector_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.engine.engine._tune_collector", lambda: None)


# Settings.


@pytest.mark.parametrize(
    ("given", "per_ip"),
    [(None, 100), ({}, 100), ({"limits": {"per_ip": 3}}, 3), (Settings(), 100)],
)
def test_settings(given: Any, per_ip: int) -> None:
    server = Server(given)
    assert isinstance(server.settings, Settings)
    assert server.settings.limits.per_ip == per_ip


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"limits": {"per_ip": -1}}, "limits.per_ip"),
        ({"limits": {"per_ipp": 1}}, "per_ipp"),
        ({"proxies": {"trusted": ["nowhere"]}}, "nowhere"),
        ({"tls": {"certificate": "/no/file", "key": "/no/key"}}, "tls.certificate"),
    ],
)
def test_wrong_settings(given: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Server(given)


# Life.


def test_from_start_to_stop() -> None:
    async def main() -> None:
        server = Server({"server": {"port": 0}, "limits": {"connections": 1}})
        assert (server.ready, server.uptime) == ((False, "not listening"), 0.0)
        assert server.addresses == []
        await server.start()
        ((host, port),) = server.addresses
        assert (host, port > 0) == ("127.0.0.1", True)
        assert server.ready == (True, "")
        assert 0 < server.uptime < 5

        lease = server.tracker.acquire("192.0.2.1")
        assert isinstance(lease, Lease)
        assert server.ready == (False, "server_limit")
        server.tracker.release(lease)
        server.draining = True
        assert server.ready == (False, "draining")
        server.draining = False
        assert server.ready == (True, "")

        await server.stop()
        assert server.draining
        assert server.ready == (False, "not listening")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        await server.stop()

    run(main())


def test_as_a_context() -> None:
    async def main() -> None:
        async with Server({"server": {"port": 0}}) as server:
            assert server.ready == (True, "")
            assert list(server.connections) == []
        assert server.addresses == []

    run(main())


def test_an_address_that_is_taken() -> None:
    async def main() -> None:
        async with Server({"server": {"port": 0}}) as server:
            port = server.addresses[0][1]
            second = Server({"server": {"port": port}})
            with pytest.raises(ConfigError, match=f"port {port}"):
                await second.start()
            assert server.ready == (True, "")
            await second.stop()

    run(main())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_serving_until_a_signal_comes(name: str) -> None:
    async def main() -> None:
        server = Server({"server": {"port": 0}})
        serving = asyncio.create_task(server.serve())
        while not server.addresses:
            await asyncio.sleep(0)
        os.kill(os.getpid(), getattr(signal, name))
        await serving
        assert server.addresses == []

    run(main())


def test_what_is_known_of_it() -> None:
    server = Server()
    server.stats.accepted = 3
    snapshot = server.snapshot()
    assert snapshot["connections"]["accepted"] == 3
    assert snapshot["connections"]["limit"] == 10_000
    assert snapshot["rooms"] == 0
    assert server.version.count(".") >= 2


# Deadlines.


class Peer:
    """A connection that is only asked to close."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.closed: list[tuple[int, str, str]] = []

    def close(self, code: int, reason: str, cause: str) -> None:
        self.closed.append((code, reason, cause))


def opened(server: Server, **grant: Any) -> Any:
    lease = server.tracker.acquire("192.0.2.1", ANONYMOUS)
    assert isinstance(lease, Lease)
    peer = cast(Connection, Peer(lease))
    server.granted(peer, Grant(b"", lease, "/ws", **grant))
    return peer


EXPIRED = (4001, "token expired", "token_expired")
TOO_LATE = (4001, "no token arrived in time", "auth_timeout")


@pytest.mark.parametrize(
    ("grant", "closed"),
    [
        ({}, []),
        ({"expires_in": 50}, []),
        ({"expires_in": 30}, [EXPIRED]),
        ({"expires_in": 0}, [EXPIRED]),
        ({"expires_in": -5}, [EXPIRED]),
        ({"pending_auth": True}, [TOO_LATE]),
    ],
)
def test_deadlines(grant: dict[str, Any], closed: list[tuple[int, str, str]]) -> None:
    server = Server()
    peer = opened(server, **grant)
    server.tick(monotonic() - 6)
    assert peer.closed == []
    server.tick(monotonic() + 40)
    server.tick(monotonic() + 41)
    assert peer.closed == closed


@pytest.mark.parametrize(("expires_in", "closed"), [(None, []), (30, [EXPIRED]), (100, [])])
def test_who_authenticates_in_time_may_stay(
    expires_in: float | None, closed: list[tuple[int, str, str]]
) -> None:
    server = Server()
    peer = opened(server, pending_auth=True)
    expires_at = None if expires_in is None else time() + expires_in
    server.authenticated(peer, Identity("ann", expires_at=expires_at))
    server.tick(monotonic() + 40)
    assert peer.closed == closed


def test_who_is_gone_has_no_deadlines_and_no_lease() -> None:
    server = Server()
    peer = opened(server, pending_auth=True, expires_in=1)
    server.gone(peer, "eof")
    server.gone(peer, "eof")
    server.tick(monotonic() + 40)
    assert peer.closed == []
    assert server.tracker.open == 0
    assert server.stats.disconnected["eof"] == 1


# Warnings.


def test_a_flood_of_warnings_is_one_line_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    server = Server()
    for _ in range(100):
        server.warn("the sky is falling")
    now += 1
    server.warn("the sky is falling")
    now += 1
    server.warn("it has fallen")
    assert [record.getMessage() for record in caplog.records] == [
        "the sky is falling",
        "the sky is falling (99 more warnings since)",
        "it has fallen",
    ]
